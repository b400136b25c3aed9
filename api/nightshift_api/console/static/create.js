// The view in which a batch is made: a file, what the checks say of it, a name.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { bytes, count, percent, plural } from "./format.js";
import { icon, problem } from "./parts.js";

export function createView(draft, limits, on) {
  const submit = (event) => {
    event.preventDefault();
    on.send(event.target.elements.name.value.trim());
  };
  return html`<form @submit=${submit}>
    <header class="modal-head">
      <h2 id="create-title">New batch</h2>
      <button type="button" class="plain" @click=${on.close} aria-label="Close">${icon("close")}</button>
    </header>
    <div class="modal-body">
      ${draft.file ? chosen(draft, on) : dropZone(limits, on)} ${verdict(draft)}
      ${draft.error ? problem(draft.error, draft.retry ? on.retry : null) : nothing} ${draft.check?.isGood && draft.isChecked ? fields(draft) : nothing}
    </div>
    <footer class="modal-foot">
      <span class="muted" role="status">${draft.sent === null ? nothing : sending(draft)}</span>
      <button type="button" class="quiet" @click=${on.close}>${draft.sent === null ? "Close" : "Stop"}</button>
      <button class="primary" ?disabled=${!draft.isChecked || !draft.check?.isGood || draft.sent !== null}>Create batch</button>
    </footer>
  </form>`;
}

const sending = (draft) => (draft.sent < 1 ? `Uploading, ${percent(draft.sent, 1)}` : "Creating the batch…");

function dropZone(limits, on) {
  return html`<label class="drop">
    <input type="file" accept=".jsonl" class="hidden" @change=${(event) => on.choose(event.target.files[0])} />
    ${icon("up")}
    <strong>Drop a file here, or choose one</strong>
    <span class="muted">.jsonl, one request on each line; up to ${bytes(limits.max_file_bytes)} and ${count(limits.max_lines)} requests</span>
  </label>`;
}

function chosen(draft, on) {
  return html`<div class="chosen">
    ${icon("file")}
    <span class="grow"><span class="filename">${draft.file.name}</span><span class="sub">${bytes(draft.file.size)}</span></span>
    <button type="button" class="quiet" @click=${on.reset} ?disabled=${draft.sent !== null}>Change</button>
  </div>`;
}

function verdict(draft) {
  if (!draft.check) return nothing;
  if (!draft.isChecked) {
    return html`<div class="checking" role="status"><progress max="1" .value=${draft.checked} aria-label="Checking the file"></progress><span>Checking each line, ${percent(draft.checked, 1)}</span></div>`;
  }
  const { check } = draft;
  if (check.isGood) {
    return html`<div class="verdict good" role="status">
      ${icon("good")}
      <div><strong>Ready: ${plural(check.lines, "request")}</strong><p>For <b>${check.model}</b> on <code>${check.url}</code></p></div>
    </div>`;
  }
  const hidden = check.problemCount - check.problems.length;
  return html`<div class="verdict bad" role="alert">
    ${icon("bad")}
    <div class="grow">
      <strong>${plural(check.problemCount, "problem")} in ${plural(check.lines, "request")}</strong>
      <p>A batch of this file would fail. Nothing was sent.</p>
      <ul tabindex="0" aria-label="Problems">
        ${check.problems.map(({ line, message, code }) => html`<li><span class="line-no">${line ? `Line ${count(line)}` : "File"}</span><span class="grow">${message}<code>${code}</code></span></li>`)}
        ${hidden ? html`<li class="faint">and ${plural(hidden, "other")}</li>` : nothing}
      </ul>
    </div>
  </div>`;
}

function fields(draft) {
  return html`<div class="field">
    <label for="batch-name">Name <span class="faint">optional</span></label>
    <input id="batch-name" name="name" maxlength="512" autocomplete="off" placeholder="What you will look for later" .value=${draft.name} ?disabled=${draft.sent !== null} />
    <p class="help">It runs within 24 hours; what is not done by then is given up, and what was done is kept.</p>
  </div>`;
}
