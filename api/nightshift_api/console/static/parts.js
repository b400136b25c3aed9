// Pieces that several views are made of.

import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";
import { count, percent } from "./format.js";
import { STATUS, waitOf } from "./model.js";

const PATHS = {
  moon: svg`<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z"/>`,
  sun: svg`<circle cx="12" cy="12" r="4"/><path d="M12 3v2m0 14v2m9-9h-2M5 12H3m15.4-6.4L17 7M7 17l-1.4 1.4m12.8 0L17 17M7 7 5.6 5.6"/>`,
  auto: svg`<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5a8.5 8.5 0 0 1 0 17Z" fill="currentColor"/>`,
  search: svg`<circle cx="11" cy="11" r="6.5"/><path d="m20 20-4.4-4.4"/>`,
  plus: svg`<path d="M12 5v14M5 12h14"/>`,
  close: svg`<path d="m6 6 12 12M18 6 6 18"/>`,
  more: svg`<circle cx="5" cy="12" r="1.4" fill="currentColor"/><circle cx="12" cy="12" r="1.4" fill="currentColor"/><circle cx="19" cy="12" r="1.4" fill="currentColor"/>`,
  down: svg`<path d="M12 4v11m0 0 4.5-4.5M12 15l-4.5-4.5M5 20h14"/>`,
  up: svg`<path d="M12 20V8m0 0 4.5 4.5M12 8l-4.5 4.5M5 4h14"/>`,
  copy: svg`<rect x="8.5" y="8.5" width="11" height="11" rx="2"/><path d="M15.5 5.5v-.3A1.7 1.7 0 0 0 13.8 3.5H5.2a1.7 1.7 0 0 0-1.7 1.7v8.6c0 .9.8 1.7 1.7 1.7h.3"/>`,
  good: svg`<path d="m5 12.5 4.5 4.5L19 7.5"/>`,
  bad: svg`<path d="M12 7v6m0 3.5v.5"/><circle cx="12" cy="12" r="8.5"/>`,
  wait: svg`<circle cx="12" cy="12" r="8.5"/><path d="M12 7v5l3.2 2"/>`,
  file: svg`<path d="M13.5 3.5H7A1.5 1.5 0 0 0 5.5 5v14A1.5 1.5 0 0 0 7 20.500h10a1.5 1.5 0 0 0 1.5-1.500V8.500Zm0 0v5h5"/>`,
  again: svg`<path d="M4.5 12a7.5 7.5 0 0 1 13-5.100L20 9m0-5v5h-5M19.5 12a7.5 7.5 0 0 1-13 5.100L4 15m0 5v-5h5"/>`,
  pause: svg`<path d="M9 6v12M15 6v12"/>`,
  play: svg`<path d="M8 5.500v13l10.5-6.500Z"/>`,
  stop: svg`<rect x="6.5" y="6.5" width="11" height="11" rx="1.5"/>`,
  out: svg`<path d="M10 4H6a1.5 1.5 0 0 0-1.5 1.500v13A1.5 1.5 0 0 0 6 20h4m5-4 4-4-4-4m4 4H10"/>`,
};

export const icon = (name) =>
  html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${PATHS[name]}</svg>`;

export const brand = html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
  <rect width="32" height="32" rx="8" />
  <path d="M20.8 19.6A8 8 0 0 1 12.6 8.4a8.2 8.2 0 1 0 10.9 10.7 8 8 0 0 1-2.7.500Z" />
  <circle cx="21.5" cy="10.5" r="1.6" />
</svg>`;

export function pill(batch, facts) {
  const { label, tone } = waitOf(batch, facts)?.pill ?? STATUS[batch.status];
  return html`<span class="pill ${tone}"><span class="dot"></span>${label}</span>`;
}

// Done, failed and left, drawn to scale; what is not nothing can be seen.
export function bar({ total, completed, failed, isOver }, label) {
  const part = (n) => (total ? (100 * n) / total : 0);
  const bad = failed ? Math.max(part(failed), 0.6) : 0;
  const good = Math.min(part(completed), 100 - bad);
  return html`<svg
    class="bar ${isOver ? "over" : ""}"
    role="progressbar"
    aria-label=${label}
    aria-valuemin="0"
    aria-valuemax=${total}
    aria-valuenow=${completed + failed}
    aria-valuetext=${`${count(completed)} completed, ${count(failed)} failed, of ${count(total)}`}
  >
    <rect class="track" width="100%" height="100%" />
    <rect class="done" width="${good}%" height="100%" />
    <rect class="lost" x="${good}%" width="${bad}%" height="100%" />
  </svg>`;
}

export const share = (facts) => percent(facts.completed + facts.failed, facts.total);

export const notice = (said) =>
  html`<p class="notice ${said?.tone ?? ""}" role="status" ?hidden=${!said}>
    ${said ? html`${icon(said.tone === "bad" ? "bad" : "good")}<span>${said.text}</span>` : nothing}
  </p>`;

export const problem = (text, again) =>
  html`<div class="problem" role="alert">
    ${icon("bad")}
    <div><strong>That did not work.</strong> ${text}</div>
    ${again ? html`<button class="quiet" @click=${again}>Try again</button>` : nothing}
  </div>`;

export function confirmView(ask, on) {
  if (!ask) return nothing;
  return html`<div class="modal-body">
      <h2 id="confirm-title">${ask.title}</h2>
      <p class="muted">${ask.text}</p>
    </div>
    <footer class="modal-foot">
      <button class="quiet" @click=${on.no}>${ask.no}</button>
      <button class="primary danger" @click=${on.yes}>${ask.yes}</button>
    </footer>`;
}
