// The view of one batch.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { contentUrl } from "./api.js";
import { chart } from "./chart.js";
import { about, bytes, count, duration, isoTime, money, plural, rate, time } from "./format.js";
import { STATUS, factsOf, groupErrors, stepsOf, validationErrors, waitOf } from "./model.js";
import { bar, icon, notice, pill, problem, share } from "./parts.js";

export function detailView(detail, now, on) {
  if (detail.error) return frame("Batch", html`<p class="sub mono">${detail.id}</p>`, problem(detail.error, on.reload), nothing, on);
  if (!detail.batch) return frame("Loading…", nothing, skeleton, nothing, on);
  const { batch } = detail;
  const facts = factsOf(batch, now);
  const head = html`<p class="sub">
    ${pill(batch, facts)}
    <span class="id"><span class="mono">${batch.id}</span><button class="plain" @click=${() => on.copy(batch.id)} aria-label="Copy the id">${icon("copy")}</button></span>
  </p>`;
  const wait = waitOf(batch, facts);
  const hasRun = facts.total > 0 || !facts.isOver;
  const body = html`${notice(detail.notice)} ${wait ? waiting(wait, now) : nothing} ${strip(batch, facts)} ${hasRun ? nothing : errors(detail)}
    ${hasRun ? progress(detail, facts, wait, now) : nothing} ${hasRun ? costs(facts) : nothing} ${files(detail, facts)}
    ${hasRun ? errors(detail) : nothing} ${results(detail)} ${particulars(batch, facts, on)}`;
  return frame(facts.name ?? "Batch", head, body, html`${menu(detail, facts, on)} ${facts.isOver ? take(detail) : nothing}`, on);
}

function frame(title, head, body, actions, on) {
  return html`<header class="drawer-head">
      <div class="title">
        <h2 id="detail-title" tabindex="-1">${title}</h2>
        ${head}
      </div>
      <div class="actions">
        ${actions}
        <button class="plain" @click=${on.close} aria-label="Close">${icon("close")}</button>
      </div>
    </header>
    <div class="drawer-body">${body}</div>`;
}

const skeleton = html`<div class="skeleton" aria-busy="true" aria-label="Loading the batch"><div class="block"></div><div class="block"></div><div class="block tall"></div></div>`;

// --- what can be done -------------------------------------------------------------------------------------------------

function menu(detail, facts, on) {
  const { batch } = detail;
  const isOpen = !facts.isOver && batch.status !== "cancelling";
  const rerun = isRerunnable(batch, facts);
  const items = [
    isOpen && !facts.isSuspended && ["pause", "Suspend", () => on.act("suspend")],
    isOpen && facts.isSuspended && ["play", "Resume", () => on.act("resume")],
    rerun && ["again", "Rerun what failed", () => on.act("rerun")],
    isOpen && ["stop", "Cancel batch…", on.cancel, "danger"],
  ].filter(Boolean);
  if (!items.length) return nothing;
  return html`${rerun ? html`<button class="quiet" ?disabled=${detail.isBusy} @click=${() => on.act("rerun")}>${icon("again")}Rerun what failed</button>` : nothing}
    <div class="menu ${rerun ? "narrow" : ""}">
      <button class="plain" aria-label="Actions" aria-haspopup="true" aria-expanded=${detail.isMenuOpen ? "true" : "false"} @click=${on.menu}>${icon("more")}</button>
      <div class="items" ?hidden=${!detail.isMenuOpen}>
        ${items.map(([name, label, act, tone]) => html`<button class=${tone ?? ""} ?disabled=${detail.isBusy} @click=${act}>${icon(name)}${label}</button>`)}
      </div>
    </div>`;
}

// Of one that has ended nothing else can be asked: on a wide screen the one button does without a menu.
const isRerunnable = (batch, facts) => facts.isOver && facts.total > 0 && facts.completed < facts.total;

// What one came for, at the top: the files are further down.
function take({ batch, files }) {
  const id = batch.output_file_id;
  if (!id || files[id] === null) return nothing;
  return html`<a class="button primary" href=${contentUrl(id)} download aria-label="Download output" title="Download output">${icon("down")}Download output</a>`;
}

// --- how it goes ------------------------------------------------------------------------------------------------------

function waiting(wait, now) {
  return html`<div class="banner" role="status">
    ${icon("wait")}
    <div>
      <strong>${wait.title}</strong>
      <p>${wait.text}</p>
      ${wait.since ? html`<p class="faint">For ${duration(now - wait.since)}</p>` : nothing}
    </div>
  </div>`;
}

function strip(batch, facts) {
  const parts = [["Model", batch.model], ["Endpoint", batch.endpoint], ["GPU type", facts.gpuType], ["Instance type", facts.instanceType]];
  return html`<dl class="strip">${parts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value ?? none}</dd></div>`)}</dl>`;
}

const none = html`<span class="none"><span aria-hidden="true">–</span><span class="hidden">none</span></span>`;

function progress(detail, facts, wait, now) {
  const { batch } = detail;
  return html`<section aria-labelledby="progress-title">
    <h3 id="progress-title">Progress</h3>
    <div class="card">
      <div class="big">
        ${facts.total ? html`<strong>${share(facts)}</strong>` : nothing}
        <span class="muted">${wait && batch.status === "in_progress" ? `${wait.title}.` : STATUS[batch.status].means}</span>
        ${facts.isOver ? nothing : html`<span class="faint until">Expires in ${duration(batch.expires_at - now)}</span>`}
      </div>
      ${facts.total ? bar(facts, "Progress of this batch") : nothing}
      <dl class="stats">
        ${stat("Completed", count(facts.completed), facts.isOver ? "over" : "good")} ${stat("Errors", count(facts.failed), facts.failed ? "bad" : "")}
        ${stat(facts.isOver ? "Not run" : "Remaining", count(facts.remaining))}
        ${stat("Duration", facts.durationS === null ? null : duration(facts.durationS))} ${timing(facts)}
      </dl>
      ${facts.completed + facts.failed ? chart(facts, detail.samples, now) : nothing}
    </div>
  </section>`;
}

function timing(facts) {
  if (facts.isOver) return stat("Average rate", facts.averageRate ? rate(facts.averageRate) : null);
  return html`${stat("Time left", facts.etaS === null ? null : `~${about(facts.etaS)}`)} ${stat("Rate", facts.rate === null ? null : rate(facts.rate))}`;
}

const stat = (name, value, tone = "") =>
  html`<div><dt>${tone ? html`<span class="key ${tone}"></span>` : nothing}${name}</dt><dd>${value ?? none}</dd></div>`;

// --- what it costs ----------------------------------------------------------------------------------------------------

function costs(facts) {
  const { usage, cost, gpuSeconds, isOver } = facts;
  const isKnown = usage || cost || gpuSeconds !== null;
  return html`<section aria-labelledby="cost-title">
    <h3 id="cost-title">Cost and tokens</h3>
    <div class="card">${isKnown ? spent(facts) : html`<p class="faint">${isOver ? "Nothing was spent." : "Nothing yet."}</p>`}</div>
  </section>`;
}

function spent({ usage, cost, gpuSeconds, perRequest }) {
  return html`<dl class="stats main">
      ${stat("Cost", cost ? money(cost.total, cost.currency) : null)}
      ${stat("Per 1M tokens", cost?.per_million_tokens == null ? null : money(cost.per_million_tokens, cost.currency))}
      ${stat("GPU time", gpuSeconds === null ? null : duration(gpuSeconds))}
    </dl>
    <dl class="stats">
      ${stat("Tokens in", usage ? count(usage.input_tokens) : null)} ${stat("Tokens out", usage ? count(usage.output_tokens) : null)}
      ${stat("Tokens in all", usage ? count(usage.total_tokens) : null)}
      ${stat("Per request", perRequest === null ? null : count(Math.round(perRequest)))}
      ${usage?.input_tokens_details.cached_tokens ? stat("From cache", count(usage.input_tokens_details.cached_tokens)) : nothing}
      ${usage?.output_tokens_details.reasoning_tokens ? stat("Reasoning", count(usage.output_tokens_details.reasoning_tokens)) : nothing}
    </dl>
    ${cost || !usage ? nothing : html`<p class="help">No price is set for this model (<code>spec.pricing</code> of its HostedModel), so no cost is shown.</p>`}`;
}

// --- its files --------------------------------------------------------------------------------------------------------

function files(detail, facts) {
  const { batch } = detail;
  return html`<section aria-labelledby="files-title">
    <h3 id="files-title">Files</h3>
    <ul class="card files">
      ${file(detail, facts, "Input", batch.input_file_id)} ${file(detail, facts, "Output", batch.output_file_id)} ${file(detail, facts, "Errors", batch.error_file_id)}
    </ul>
  </section>`;
}

function file(detail, facts, label, id) {
  if (!id) return html`<li><span class="what">${label}</span><span class="faint grow">${facts.isOver ? "None" : "None yet"}</span></li>`;
  const known = detail.files[id];
  if (!/^file_/.test(id)) return html`<li><span class="what">${label}</span><span class="mono grow">${id}</span></li>`;
  if (known === null) return html`<li><span class="what">${label}</span><span class="faint grow">Deleted or expired</span></li>`;
  return html`<li>
    <span class="what">${label}</span>
    <span class="grow">
      <span class="filename">${known?.filename ?? id}</span>
      <span class="sub">${known ? `${bytes(known.bytes)}${known.status === "uploaded" ? " so far" : ""}` : "…"}</span>
    </span>
    <a class="button quiet" href=${contentUrl(id)} download aria-label="Download ${label.toLowerCase()} file">${icon("down")}Download</a>
  </li>`;
}

// --- what went wrong, and what came out -------------------------------------------------------------------------------

function errors(detail) {
  const invalid = validationErrors(detail.batch);
  const found = invalid.length ? invalid : detail.failures?.errors;
  if (!found?.length) return nothing;
  const note = invalid.length ? "Nothing was run: the input has these problems." : noteOf(detail.failures);
  return html`<section aria-labelledby="errors-title">
    <h3 id="errors-title">Errors by code</h3>
    <div class="card">
      <ul class="groups">
        ${groupErrors(found).map(
          (group) => html`<li>
            <span class="count bad-text">${count(group.count)}×</span>
            <div class="grow"><code>${group.code}</code><p>${group.message}</p><p class="faint">${group.where.join(", ")}${group.count > group.where.length ? ", …" : ""}</p></div>
          </li>`,
        )}
      </ul>
      <p class="help">${note}</p>
    </div>
  </section>`;
}

const noteOf = ({ isWhole, errors: listed }) =>
  isWhole ? `All ${plural(listed.length, "line")} of the error file.` : `The first ${plural(listed.length, "line")} of the error file; the others are not counted here.`;

function results(detail) {
  if (!detail.results?.length) return nothing;
  return html`<section aria-labelledby="results-title">
    <h3 id="results-title">First results</h3>
    <ul class="card results">
      ${detail.results.map(({ id, text }) => html`<li><span class="mono sub">${id}</span><p>${text}</p></li>`)}
    </ul>
  </section>`;
}

// --- the rest ---------------------------------------------------------------------------------------------------------

function particulars(batch, facts, on) {
  const rows = [
    ["Attempt", facts.attempt ? `${facts.attempt}${facts.failedAttempts ? `, ${facts.failedAttempts} failed before` : ""}` : null],
    ["Rerun of", facts.rerunOf && html`<a href="/console/batches/${facts.rerunOf}" @click=${link(() => on.open(facts.rerunOf))} class="mono">${facts.rerunOf}</a>`],
    ["Rows taken over", facts.reused ? count(facts.reused) : null],
    ["Resource", facts.resource && html`<code>${facts.resource.namespace}/${facts.resource.name}</code>`],
    facts.isOver ? [] : ["Expires", time(batch.expires_at)],
    ...Object.entries(batch.metadata ?? {}).map(([key, value]) => [html`<code>${key}</code>`, value]),
  ];
  return html`<section aria-labelledby="about-title">
    <h3 id="about-title">About</h3>
    <div class="card split">
      <ol class="steps">
        ${stepsOf(batch).map(({ label, at }) => html`<li class=${at === null ? "open" : ""}><span>${label}</span>${at === null ? html`<span class="faint">not yet</span>` : html`<time datetime=${isoTime(at)}>${time(at)}</time>`}</li>`)}
      </ol>
      <dl class="rows">${rows.filter(([, value]) => value).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    </div>
    ${conditions(facts)}
  </section>`;
}

const link = (act) => (event) => {
  event.preventDefault();
  act();
};

function conditions(facts) {
  if (!facts.conditions.length) return nothing;
  return html`<details class="card">
    <summary>Conditions</summary>
    <table class="plain-table">
      <thead><tr><th scope="col">Type</th><th scope="col">Status</th><th scope="col">Reason</th><th scope="col">Since</th></tr></thead>
      <tbody>
        ${facts.conditions.map((c) => html`<tr><th scope="row">${c.type}</th><td>${c.status}</td><td>${c.reason}${c.message ? html`<span class="sub">${c.message}</span>` : nothing}</td><td>${time(c.last_transition_time)}</td></tr>`)}
      </tbody>
    </table>
  </details>`;
}
