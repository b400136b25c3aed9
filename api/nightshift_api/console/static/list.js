// The view of all batches.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { ago, count, duration, isoTime, money, short, time } from "./format.js";
import { ACTIVE, factsOf } from "./model.js";
import { bar, icon, pill, problem, share } from "./parts.js";

const FILTERS = [
  { label: "All", status: [] },
  { label: "Active", status: ACTIVE },
  { label: "Completed", status: ["completed"] },
  { label: "Failed", status: ["failed"] },
  { label: "Stopped", status: ["cancelled", "expired"] },
];

export function listView(list, now, on) {
  return html`<div class="page">
    <div class="head">
      <div>
        <h1>Batches</h1>
        <p class="muted">Drop a <code>.jsonl</code> file anywhere to start one.</p>
      </div>
      <button class="primary" @click=${on.create}>${icon("plus")}New batch</button>
    </div>
    <div class="tools">
      <div class="tabs" role="group" aria-label="Filter by status">${FILTERS.map((filter) => tab(filter, list, on))}</div>
      <label class="search">
        ${icon("search")}
        <span class="hidden">Search by name, model or id</span>
        <input type="search" placeholder="Search name, model or id" maxlength="100" .value=${list.search} @input=${(event) => on.search(event.target.value)} />
      </label>
    </div>
    ${content(list, now, on)}
  </div>`;
}

function tab({ label, status }, list, on) {
  const isChosen = String(status) === String(list.status);
  const totals = list.totals && Object.entries(list.totals).filter(([name]) => !status.length || status.includes(name));
  const total = totals?.reduce((sum, [, n]) => sum + n, 0);
  return html`<button aria-pressed=${isChosen ? "true" : "false"} @click=${() => on.filter(status)}>
    <span>${label}</span>${total === undefined ? nothing : html`<span class="count">${short(total)}</span>`}
  </button>`;
}

function content(list, now, on) {
  if (list.error) return problem(list.error, on.reload);
  if (!list.rows) return skeleton;
  if (!list.rows.length) return empty(list, on);
  return html`<div class="table-frame" aria-busy=${list.isLoading ? "true" : "false"}>
      <table class="batches" role="table">
        <caption class="hidden">Batches, newest first</caption>
        <thead role="rowgroup">
          <tr role="row">
            ${["Batch", "Status", "Progress"].map((name) => html`<th role="columnheader" scope="col">${name}</th>`)}
            ${["Duration", "Cost", "Created"].map((name) => html`<th role="columnheader" scope="col" class="number">${name}</th>`)}
          </tr>
        </thead>
        <tbody role="rowgroup">
          ${repeat(list.rows, (batch) => batch.id, (batch) => row(batch, now, on))}
        </tbody>
      </table>
    </div>
    ${foot(list, on)}`;
}

function row(batch, now, on) {
  const facts = factsOf(batch, now);
  const open = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    on.open(batch.id);
  };
  return html`<tr role="row" data-batch=${batch.id}>
    <th role="rowheader" scope="row" class="name">
      <a href="/console/batches/${batch.id}" @click=${open}>${facts.name ?? batch.id}</a>
      <span class="sub">${facts.name ? html`<span class="mono">${tail(batch.id)}</span>` : "No name"}${batch.model ? ` · ${batch.model}` : nothing}</span>
    </th>
    <td role="cell" class="status">${pill(batch, facts)}</td>
    <td role="cell" class="progress">${progress(facts)}</td>
    <td role="cell" class="number took" data-label="Duration">${facts.durationS === null ? dash : duration(facts.durationS)}</td>
    <td role="cell" class="number cost" data-label="Cost">${facts.cost ? money(facts.cost.total, facts.cost.currency) : dash}</td>
    <td role="cell" class="number made" data-label="Created"><time datetime=${isoTime(batch.created_at)} title=${time(batch.created_at)}>${ago(now - batch.created_at)}</time></td>
  </tr>`;
}

const dash = html`<span class="faint" aria-hidden="true">–</span><span class="hidden">none</span>`;

// The end of an id, which is what tells two apart: their beginnings are the time.
const tail = (id) => `…${id.slice(-12)}`;

function progress(facts) {
  if (!facts.total) return html`<span class="faint">${facts.isOver ? "Nothing ran" : "Not counted yet"}</span>`;
  return html`${bar(facts, "Progress")}
    <span class="sub numbers">
      <span>${count(facts.completed)} of ${count(facts.total)}</span>
      <span>${facts.failed ? html`<span class="bad-text">${count(facts.failed)} failed</span> · ` : nothing}${share(facts)}</span>
    </span>`;
}

function foot(list, on) {
  const searched = list.search && list.more ? html`<p class="muted">Not all batches have been looked through yet.</p>` : nothing;
  return html`<div class="foot">
    ${searched}
    ${list.more ? html`<button class="quiet" @click=${on.more} ?disabled=${list.isLoading}>${list.isLoading ? "Loading…" : "Show more"}</button>` : html`<p class="faint">That is all.</p>`}
  </div>`;
}

function empty(list, on) {
  if (list.status.length || list.search) {
    return html`<div class="empty">
      ${icon("search")}
      <h2>No batch matches</h2>
      <p class="muted">${list.more ? "None of those looked through so far; there are older ones." : "Try another name, or another status."}</p>
      <div class="row">
        ${list.more ? html`<button class="quiet" @click=${on.more}>Search older ones</button>` : nothing}
        <button class="quiet" @click=${on.clear}>Show all batches</button>
      </div>
    </div>`;
  }
  return html`<div class="empty">
    ${icon("moon")}
    <h2>Let it run overnight</h2>
    <p class="muted">A batch is a file with one request on each line. It runs within 24 hours, and every line ends exactly once: in the output file or in the error file.</p>
    <button class="primary" @click=${on.create}>${icon("plus")}Create your first batch</button>
  </div>`;
}

const skeleton = html`<div class="table-frame skeleton" aria-busy="true" aria-label="Loading batches">
  ${[1, 2, 3, 4, 5, 6].map(() => html`<div class="line"><i></i><i></i><i></i><i></i></div>`)}
</div>`;
