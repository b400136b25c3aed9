// The page: its state, what changes it, and one function that draws all of it.

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import * as api from "./api.js";
import { addSample } from "./chart.js";
import { detailView } from "./detail.js";
import { listView } from "./list.js";
import { Live } from "./live.js";
import { answerOf, isEnded, lineError, matches, nameOf } from "./model.js";
import { brand, confirmView, icon } from "./parts.js";
import { signInView } from "./signin.js";

const PAGE_SIZE = 50;
const SEARCH_WAIT_MS = 200;
const HEAD_BYTES = 131_072;
const FIRST_RESULTS = 5;
const THEMES = { auto: "System theme", light: "Light theme", dark: "Dark theme" };

const state = {
  session: undefined, // undefined: not asked yet; null: nobody
  signIn: { ended: false, error: null, isBusy: false },
  live: "off",
  theme: document.documentElement.dataset.theme ?? "auto",
  list: emptyList(),
  detail: null,
  draft: null,
  ask: null,
};

function emptyList() {
  const query = new URLSearchParams(location.search);
  const status = query.get("status")?.split(",") ?? [];
  return { rows: null, more: null, status, search: query.get("search") ?? "", totals: null, error: null, isLoading: false };
}

const now = () => Date.now() / 1000;

// --- drawing ----------------------------------------------------------------------------------------------------------

let isDue = false;

function draw() {
  if (isDue) return;
  isDue = true;
  queueMicrotask(() => {
    isDue = false;
    render(view(), document.getElementById("app"));
    showDialog("detail", state.detail !== null);
    showDialog("create", state.draft !== null && making !== null);
    showDialog("confirm", state.ask !== null);
    document.title = titleOf();
  });
}

function titleOf() {
  if (!state.session) return "Sign in · Nightshift";
  const { detail } = state;
  return `${detail ? ((detail.batch && nameOf(detail.batch)) ?? "Batch") : "Batches"} · Nightshift`;
}

function showDialog(id, isWanted) {
  const dialog = document.getElementById(id);
  if (!dialog || dialog.open === isWanted) return;
  if (isWanted) dialog.showModal();
  else dialog.close();
}

function view() {
  if (state.session === undefined) return html`<div class="boot" aria-busy="true">${brand}</div>`;
  if (state.session === null) return signInView(state.signIn, signIn);
  const moment = now();
  return html`<a class="skip" href="#main">Skip to the batches</a>
    ${topBar()}
    <main id="main" tabindex="-1">${listView(state.list, moment, listOn)}</main>
    <dialog id="detail" class="drawer" aria-labelledby="detail-title" @cancel=${leave} @click=${onBackdrop(closeDetail)}>
      ${state.detail ? detailView(state.detail, moment, detailOn) : nothing}
    </dialog>
    <dialog id="create" class="modal" aria-labelledby="create-title" @cancel=${leaveDraft}>
      ${state.draft && making ? making.createView(state.draft, state.session.limits, createOn) : nothing}
    </dialog>
    <dialog id="confirm" class="modal small" role="alertdialog" aria-labelledby="confirm-title" @cancel=${confirmOn.no}>
      ${confirmView(state.ask, confirmOn)}
    </dialog>`;
}

function topBar() {
  const words = { live: "Live", waiting: "Reconnecting…", off: "Paused" }[state.live];
  return html`<header class="topbar">
    <a class="brand" href="/console" @click=${link(closeDetail)}>${brand}<span>Nightshift</span></a>
    <span class="namespace" title="The namespace that your key opens"><span class="hidden">Namespace </span>${state.session.namespace}</span>
    <span class="grow"></span>
    <span class="live ${state.live}" role="status"><span class="dot"></span>${words}</span>
    <button class="plain" @click=${nextTheme} aria-label=${`${THEMES[state.theme]}; change it`} title=${THEMES[state.theme]}>${icon({ auto: "auto", light: "sun", dark: "moon" }[state.theme])}</button>
    <button class="plain" @click=${signOut} aria-label="Sign out" title="Sign out">${icon("out")}</button>
  </header>`;
}

const link = (act) => (event) => {
  event.preventDefault();
  act();
};

const onBackdrop = (act) => (event) => {
  if (event.target === event.currentTarget) act();
  else if (state.detail?.isMenuOpen && !event.target.closest(".menu")) setDetail({ isMenuOpen: false });
};

function nextTheme() {
  const names = Object.keys(THEMES);
  state.theme = names[(names.indexOf(state.theme) + 1) % names.length];
  if (state.theme === "auto") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("nightshift-theme");
  } else {
    document.documentElement.dataset.theme = state.theme;
    localStorage.setItem("nightshift-theme", state.theme);
  }
  draw();
}

// --- the session ------------------------------------------------------------------------------------------------------

async function start() {
  try {
    state.session = await api.showSession();
    enter();
  } catch (error) {
    state.session = null;
    state.signIn.error = error.status === 401 ? null : error.message;
  }
  draw();
}

async function signIn(key) {
  state.signIn = { ended: false, error: key.trim() ? null : "Enter your API key.", isBusy: Boolean(key.trim()) };
  draw();
  if (!key.trim()) return;
  try {
    state.session = await api.signIn(key);
    state.signIn.isBusy = false;
    enter();
  } catch (error) {
    state.signIn = { ended: false, error: error.message, isBusy: false };
  }
  draw();
}

function enter() {
  state.list = emptyList();
  load();
  route();
}

async function signOut() {
  await api.signOut().catch(() => {});
  forget({ ended: false });
}

// Nothing of what was seen stays on the page.
function forget({ ended }) {
  live.stop();
  Object.assign(state, { session: null, list: emptyList(), detail: null, draft: null, ask: null });
  state.signIn = { ended, error: null, isBusy: false };
  sessionStorage.clear();
  draw();
}

// What to say of an error; one that says that the session is over ends it.
function told(error) {
  if (error.status === 401) forget({ ended: true });
  return error.message;
}

// --- the list ---------------------------------------------------------------------------------------------------------

let loading = null;

function queryOf(list, after) {
  const query = { limit: PAGE_SIZE };
  if (list.status.length) query.status = list.status.join(",");
  if (list.search.trim()) query.search = list.search.trim();
  return after ? { ...query, after } : query;
}

async function load(after) {
  loading?.abort();
  const asked = (loading = new AbortController());
  setList({ isLoading: true, error: null });
  try {
    const page = await api.listBatches(queryOf(state.list, after), asked.signal);
    const rows = after ? [...state.list.rows, ...page.data] : page.data;
    setList({ rows, more: page.has_more ? page.last_id : null, isLoading: false });
  } catch (error) {
    if (error.name !== "AbortError") setList({ error: told(error), isLoading: false });
  }
}

function setList(change) {
  Object.assign(state.list, change);
  draw();
}

let searching = null;

function showQuery() {
  const { status, search } = state.list;
  const query = new URLSearchParams();
  if (status.length) query.set("status", status.join(","));
  if (search.trim()) query.set("search", search.trim());
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}

function search(words, wait = SEARCH_WAIT_MS) {
  clearTimeout(searching);
  setList({ search: words });
  searching = setTimeout(() => {
    showQuery();
    load();
  }, wait);
}

const listOn = {
  create: () => openDraft(null),
  reload: () => load(),
  more: () => load(state.list.more),
  open: (id) => go(id),
  search,
  filter: (status) => {
    setList({ status });
    search(state.list.search, 0);
  },
  clear: () => {
    setList({ status: [] });
    search("", 0);
  },
};

// One batch as it is now: in its row, in a new row, or in none if it no longer belongs here.
function place(batch) {
  const { rows } = state.list;
  if (!rows) return;
  const at = rows.findIndex(({ id }) => id === batch.id);
  const belongs = matches(batch, state.list);
  if (at >= 0) state.list.rows = belongs ? rows.with(at, batch) : rows.toSpliced(at, 1);
  else if (belongs && isNewest(batch, rows)) state.list.rows = [batch, ...rows];
  draw();
}

const isNewest = (batch, [first]) => !first || [batch.created_at, batch.id] >= [first.created_at, first.id];

// --- one batch --------------------------------------------------------------------------------------------------------

function route() {
  const found = /^\/console\/batches\/([^/]+)$/.exec(location.pathname);
  if (found) openDetail(decodeURIComponent(found[1]));
  else {
    state.detail = null;
    live.watch(null);
    draw();
  }
}

function go(id) {
  history.pushState(null, "", `/console${id ? `/batches/${encodeURIComponent(id)}` : ""}${location.search}`);
  route();
}

const closeDetail = () => (state.detail ? go(null) : undefined);
const leave = (event) => {
  if (event.target !== event.currentTarget) return;
  event.preventDefault();
  if (state.detail?.isMenuOpen) setDetail({ isMenuOpen: false });
  else closeDetail();
};

// What was seen of a batch outlasts a reload, but is worth no more than the browser has room for.
function keepSamples(id, samples) {
  try {
    sessionStorage.setItem(samplesKey(id), JSON.stringify(samples));
  } catch {
    sessionStorage.clear();
  }
}

const samplesKey = (id) => `nightshift-samples-${id}`;

function openDetail(id) {
  const batch = state.list.rows?.find((row) => row.id === id) ?? null;
  const samples = JSON.parse(sessionStorage.getItem(samplesKey(id)) ?? "[]");
  state.detail = { id, batch, samples, files: {}, failures: null, results: null, error: null, notice: null, isMenuOpen: false, isBusy: false };
  live.watch(id);
  draw();
  refresh(id);
}

function setDetail(change, id = state.detail?.id) {
  if (!state.detail || state.detail.id !== id) return; // another one has been opened meanwhile
  Object.assign(state.detail, change);
  draw();
}

async function refresh(id) {
  try {
    see(await api.getBatch(id));
  } catch (error) {
    setDetail({ error: error.status === 404 ? "There is no such batch in this namespace; it may have been deleted." : told(error) }, id);
  }
}

// Take in what a batch is now, and look at its files when there is something new in them to see.
function see(batch) {
  const { detail } = state;
  if (detail?.id !== batch.id) return;
  const before = detail.batch;
  const samples = batch.in_progress_at && !isEnded(batch) ? addSample(detail.samples, batch, now()) : detail.samples;
  keepSamples(batch.id, samples);
  setDetail({ batch, samples, error: null });
  place(batch);
  const isNew = before === null || !detail.isSeen || before.status !== batch.status;
  detail.isSeen = true;
  for (const file of [batch.input_file_id, batch.output_file_id, batch.error_file_id])
    if (file && (isNew || !(file in detail.files))) lookAtFile(batch.id, file);
  if (batch.error_file_id && (isNew || !detail.failures)) lookAtFailures(batch);
  if (batch.output_file_id && (isNew || !detail.results)) lookAtResults(batch);
}

async function lookAtFile(id, file) {
  const { detail } = state;
  detail.files[file] ??= undefined;
  const found = await api.getFile(file).catch(() => null);
  setDetail({ files: { ...detail.files, [file]: found } }, id);
}

async function lookAtFailures({ id, error_file_id: file }) {
  state.detail.failures ??= { errors: [] };
  const { lines, isWhole } = await api.readHead(file, HEAD_BYTES).catch(() => ({ lines: [], isWhole: true }));
  setDetail({ failures: { errors: lines.map(lineError), isWhole } }, id);
}

async function lookAtResults({ id, output_file_id: file }) {
  state.detail.results ??= [];
  const { lines } = await api.readHead(file, HEAD_BYTES).catch(() => ({ lines: [] }));
  const results = lines.slice(0, FIRST_RESULTS).map((line) => ({ id: line.custom_id, text: answerOf(line) }));
  setDetail({ results }, id);
}

async function act(what, done) {
  const { id } = state.detail;
  setDetail({ isBusy: true, isMenuOpen: false, notice: null });
  try {
    const batch = await api.act(id, what);
    setDetail({ isBusy: false, notice: { text: done } }, id);
    if (batch.id === id) see(batch);
    else {
      place(batch);
      go(batch.id);
      setDetail({ notice: { text: done } });
    }
  } catch (error) {
    setDetail({ isBusy: false, notice: { tone: "bad", text: told(error) } }, id);
  }
}

const DONE = {
  cancel: "It is being stopped. What was done is kept.",
  suspend: "Suspended. Its 24 hours go on.",
  resume: "Resumed.",
  rerun: "A new batch runs what failed; what succeeded is taken over.",
};

const detailOn = {
  close: closeDetail,
  reload: () => openDetail(state.detail.id),
  open: (id) => go(id),
  menu: () => setDetail({ isMenuOpen: !state.detail.isMenuOpen }),
  copy: async (id) => {
    const isCopied = await navigator.clipboard?.writeText(id).then(() => true, () => false);
    setDetail({ notice: isCopied ? { text: "The id is in the clipboard." } : { tone: "bad", text: "The browser does not let this page copy." } });
  },
  act: (what) => act(what, DONE[what]),
  cancel: () => {
    setDetail({ isMenuOpen: false });
    const title = "Cancel this batch?";
    const text = "Requests in flight are given up. What is done is kept and can be downloaded; a cancelled batch cannot be started again, but what it did not do can be rerun.";
    state.ask = { title, text, yes: "Cancel batch", no: "Keep it running", act: () => act("cancel", DONE.cancel) };
    draw();
  },
};

const confirmOn = {
  no: (event) => {
    event?.preventDefault();
    state.ask = null;
    draw();
  },
  yes: () => {
    const { ask } = state;
    state.ask = null;
    draw();
    ask.act();
  },
};

// --- a new batch ------------------------------------------------------------------------------------------------------

// What only a new batch needs is fetched with the first one: the first view is lighter by it.
let making = null;

async function openDraft(file) {
  state.draft ??= emptyDraft();
  try {
    making ??= { ...(await import("./create.js")), ...(await import("./check.js")) };
  } catch {
    state.draft = null;
    return setList({ error: "The server cannot be reached." });
  }
  draw();
  return file && choose(file);
}

const emptyDraft = () => ({ file: null, check: null, checked: 0, isChecked: false, sent: null, error: null, retry: false, name: "", uploaded: null, key: null, stop: new AbortController() });

const closeDraft = () => {
  state.draft?.stop.abort();
  state.draft = null;
  draw();
};
const leaveDraft = (event) => {
  if (event.target !== event.currentTarget) return;
  event.preventDefault();
  closeDraft();
};

async function choose(file) {
  state.draft?.stop.abort();
  if (!file) return;
  const draft = (state.draft = { ...emptyDraft(), file });
  draw();
  try {
    const models = await api.listModels().then(({ data }) => data.map(({ id }) => id), () => null);
    draft.check = new making.Check(state.session.limits, models);
    draw();
    await making.checkFile(file, draft.check, (checked) => {
      draft.checked = checked;
      draw();
    }, draft.stop.signal);
    draft.isChecked = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    Object.assign(draft, { check: null, error: told(error) });
  }
  draw();
}

async function send(name) {
  const { draft } = state;
  Object.assign(draft, { sent: draft.uploaded ? 1 : 0, error: null, name });
  draw();
  try {
    draft.uploaded ??= await api.upload(draft.file, (sent) => {
      draft.sent = sent;
      draw();
    }, draft.stop.signal);
    draft.sent = 1;
    draft.key ??= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const metadata = name ? { "batch-name": name } : undefined;
    const asked = { input_file_id: draft.uploaded.id, endpoint: draft.check.url, completion_window: "24h", metadata };
    const batch = await api.createBatch(asked, draft.key);
    if (state.draft !== draft) return;
    state.draft = null;
    place(batch);
    go(batch.id);
  } catch (error) {
    if (error.name === "AbortError") return;
    Object.assign(draft, { sent: null, error: told(error), retry: true });
  }
  draw();
}

const createOn = {
  close: closeDraft,
  choose,
  reset: () => {
    state.draft.stop.abort();
    state.draft = emptyDraft();
    draw();
  },
  retry: () => send(state.draft.name),
  send,
};

function takesDrop(event) {
  return state.session && event.dataTransfer?.types.includes("Files") && (state.draft?.sent ?? null) === null;
}

addEventListener("dragover", (event) => {
  if (!takesDrop(event)) return;
  event.preventDefault();
  document.documentElement.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.documentElement.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  if (!takesDrop(event)) return;
  event.preventDefault();
  document.documentElement.classList.remove("dragging");
  openDraft(event.dataTransfer.files[0]);
});

// --- what the server tells --------------------------------------------------------------------------------------------

const live = new Live({
  state: (live) => {
    state.live = live;
    draw();
  },
  hello: ({ missed, totals }) => {
    setList({ totals });
    if (missed && state.list.rows && !state.list.isLoading) load();
  },
  missed: ({ totals }) => {
    setList({ totals });
    load();
  },
  totals: (totals) => setList({ totals }),
  batch: (batch) => {
    if (state.detail?.id !== batch.id || !state.detail.batch) place(batch); // of that one `detail` tells, and more
  },
  gone: ({ id }) => {
    if (state.list.rows) setList({ rows: state.list.rows.filter((batch) => batch.id !== id) });
    if (state.detail?.id === id) setDetail({ error: "This batch has been deleted." });
  },
  detail: see,
  "signed-out": () => forget({ ended: true }),
  broke: () => api.showSession().catch(told),
});

addEventListener("popstate", () => state.session && route());
// Durations and ages go on by themselves.
setInterval(() => state.session && !document.hidden && draw(), 1000);

start();
