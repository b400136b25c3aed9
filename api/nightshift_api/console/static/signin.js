// The view of whoever has not signed in.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { brand, icon } from "./parts.js";

export function signInView({ ended, error, isBusy }, onSubmit) {
  const submit = (event) => {
    event.preventDefault();
    onSubmit(event.target.elements.key.value);
  };
  return html`<main class="signin" id="main">
    <form class="card" @submit=${submit} novalidate>
      ${brand}
      <h1>Sign in to Nightshift</h1>
      <p class="muted">Batches and files of the namespace that your key opens.</p>
      ${ended ? html`<p class="notice" role="status">${icon("wait")}<span>Your session has ended. Sign in again.</span></p>` : nothing}
      <label for="key">API key</label>
      <input
        id="key"
        name="key"
        type="password"
        autocomplete="current-password"
        spellcheck="false"
        placeholder="sk-…"
        required
        aria-invalid=${error ? "true" : "false"}
        aria-describedby="key-help"
      />
      <p id="key-help" class=${error ? "field-error" : "help"} role=${error ? "alert" : nothing}>
        ${error ?? "The key that your programs send. It is not stored in this browser."}
      </p>
      <button class="primary wide" ?disabled=${isBusy}>${isBusy ? "Signing in…" : "Sign in"}</button>
    </form>
  </main>`;
}
