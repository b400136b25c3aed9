// The API as this page calls it: signed in by the cookie, with the header that no other site can send.

const HEADERS = { "nightshift-console": "1" };

export class ApiError extends Error {
  constructor(status, message, code) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function ask(method, path, { body, headers, signal } = {}) {
  let response;
  try {
    const json = body === undefined ? {} : { "content-type": "application/json" };
    const options = { method, signal, headers: { ...HEADERS, ...json, ...headers } };
    response = await fetch(path, body === undefined ? options : { ...options, body: JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw await errorOf(response.status, await response.text());
  return response;
}

function errorOf(status, text) {
  try {
    const { message, code } = JSON.parse(text).error;
    return new ApiError(status, message, code);
  } catch {
    return new ApiError(status, `The server answered with ${status}.`);
  }
}

const json = async (...asked) => (await ask(...asked)).json();
const id = encodeURIComponent;

export const showSession = () => json("GET", "/console/session");
export const signIn = (key) => json("POST", "/console/session", { body: { key } });
export const signOut = () => ask("DELETE", "/console/session");
export const listModels = () => json("GET", "/v1/models");
export const listBatches = (query, signal) => json("GET", `/v1/batches?${new URLSearchParams(query)}`, { signal });
export const getBatch = (batch) => json("GET", `/v1/batches/${id(batch)}`);
export const getFile = (file) => json("GET", `/v1/files/${id(file)}`);
export const contentUrl = (file) => `/v1/files/${id(file)}/content`;
export const act = (batch, what) => json("POST", `/v1/batches/${id(batch)}/${what}`);
export const createBatch = (body, key) => json("POST", "/v1/batches", { body, headers: { "idempotency-key": key } });

// The first lines of a file, and no more of it than that: a result file may be large, and may grow.
export async function readHead(file, maxBytes, signal) {
  const response = await ask("GET", contentUrl(file), { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let isWhole = false;
  while (text.length < maxBytes) {
    const { done, value } = await reader.read();
    if ((isWhole = done)) break;
    text += value;
  }
  reader.cancel().catch(() => {});
  const lines = text.split("\n").slice(0, -1).filter(Boolean);
  return { lines: lines.map((line) => JSON.parse(line)), isWhole };
}

// By XMLHttpRequest, which alone tells how much of a body has been sent.
export function upload(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("purpose", "batch");
    form.append("file", file);
    request.open("POST", "/v1/files");
    request.setRequestHeader("nightshift-console", "1");
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () =>
      request.status === 200
        ? resolve(JSON.parse(request.responseText))
        : reject(errorOf(request.status, request.responseText));
    request.onerror = () => reject(new ApiError(0, "The upload broke off. Nothing was stored."));
    request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
