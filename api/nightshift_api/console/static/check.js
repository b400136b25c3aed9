// The checks that a batch's file meets (contract 8), made in the browser before anything is sent.
//
// The file is read piece by piece, so its size costs no memory, and the page gets a turn after each. The server checks
// again and has the last word; it knows a few rarer things besides.

import { bytes } from "./format.js";

const MAX_KEPT = 50;
const TURN_MS = 24;
const REQUIRED = { custom_id: "string", method: "string", url: "string", body: "object" };

export class Check {
  read = 0;
  lines = 0;
  physical = 0;
  problems = [];
  problemCount = 0;
  url = null;
  model = null;
  #ids = new Set();
  #told = new Set();
  #decoder = new TextDecoder("utf-8", { fatal: true });

  // `limits` are those of the installation; `models` the ids that it serves, or null if they are not known.
  constructor(limits, models) {
    this.limits = limits;
    this.models = models && new Set(models);
  }

  get isGood() {
    return this.problemCount === 0;
  }

  take(bytes) {
    this.physical += 1;
    if (bytes.length > this.limits.max_line_bytes) {
      return this.#blame("line_too_long", "This line is longer than a line may be. Split its request.");
    }
    const text = this.#decode(bytes);
    if (text === null) return this.#blame("invalid_json_line", "This line is not UTF-8. Save the file in that encoding.");
    if (!text.trim()) return undefined;
    this.lines += 1;
    if (this.lines > this.limits.max_lines) return this.#blameOnce("too_many_tasks", this.#tooMany());
    return this.#takeText(text);
  }

  finish() {
    if (!this.lines && this.isGood) this.#blame("empty_file", "There is no request in the file.", null);
  }

  #tooMany() {
    return `A file may have ${this.limits.max_lines.toLocaleString("en")} requests. Split it into several batches.`;
  }

  #decode(bytes) {
    try {
      return this.#decoder.decode(bytes);
    } catch {
      return null;
    }
  }

  #takeText(text) {
    let item;
    try {
      item = JSON.parse(text);
    } catch (error) {
      return this.#blame("invalid_json_line", `This line is not JSON: ${error.message.replace(/^JSON\.parse: /, "")}.`);
    }
    if (item === null || typeof item !== "object" || Array.isArray(item)) {
      return this.#blame("invalid_request", "This line is no JSON object. Each line is one request in braces.");
    }
    for (const [key, type] of Object.entries(REQUIRED)) {
      if (!(key in item)) return this.#blame("missing_required_parameter", `This line has no "${key}".`);
      if (item[key] === null || typeof item[key] !== type) {
        return this.#blame("invalid_request", `"${key}" should be ${type === "object" ? "an object" : "a string"}.`);
      }
    }
    return this.#takeItem(item);
  }

  #takeItem({ custom_id, method, url, body }) {
    if (!custom_id || [...custom_id].length > 512) this.#blame("invalid_request", '"custom_id" should have 1 to 512 characters.');
    if (this.#ids.has(custom_id)) {
      this.#blame("duplicate_custom_id", `The custom_id "${custom_id}" was used before. Results could not be told apart.`);
    }
    this.#ids.add(custom_id);
    if (method !== "POST") this.#blame("invalid_request", '"method" should be "POST".');
    this.url ??= url;
    if (!this.limits.endpoints.includes(url)) {
      this.#blame("invalid_url", `"${url}" is no endpoint of this installation: ${this.limits.endpoints.join(", ")}.`);
    } else if (url !== this.url) {
      this.#blame("invalid_url", `"${url}" differs from "${this.url}" above. A file has one endpoint; make two files.`);
    }
    this.#takeBody(url, body);
  }

  #takeBody(url, body) {
    if (typeof body.model !== "string") return this.#blame("invalid_request", '"body.model" should be the name of a model.');
    this.model ??= body.model;
    if (this.models && !this.models.has(body.model)) this.#blame("model_not_found", this.#unknown(body.model));
    if (body.stream === true) this.#blame("streaming_unsupported", '"stream" cannot be true in a batch.');
    const needed = { "/v1/chat/completions": "messages", "/v1/embeddings": "input" }[url];
    if (needed && !(needed in body)) this.#blame("invalid_request", `This line has no "body.${needed}".`);
    return undefined;
  }

  #unknown(model) {
    const served = [...this.models].slice(0, 5).join(", ") || "none";
    return `The model "${model}" is not served here. Served: ${served}.`;
  }

  #blameOnce(code, message) {
    if (!this.#told.has(code)) this.#blame(code, message, null);
    this.#told.add(code);
  }

  #blame(code, message, line = this.physical) {
    this.problemCount += 1;
    if (this.problems.length < MAX_KEPT) this.problems.push({ code, message, line });
  }
}

// Check a file; tells how far it has come, from 0 to 1. The signal stops it.
export async function checkFile(file, check, onProgress, signal) {
  const extension = /\.([^.]*)$/.exec(file.name)?.[1].toLowerCase();
  if (extension && extension !== "jsonl") throw new Error(`The name ends in .${extension}; a batch is a .jsonl file, one request on each line.`);
  if (!file.size) throw new Error("The file is empty.");
  const most = check.limits.max_file_bytes;
  if (file.size > most) throw new Error(`The file has ${bytes(file.size)}; ${bytes(most)} are allowed. Split it into several batches.`);
  const lines = new Lines((line) => check.take(line));
  let turn = performance.now();
  for (const reader = file.stream().getReader(); ; ) {
    const { done, value } = await reader.read();
    signal.throwIfAborted();
    if (done) break;
    lines.push(value);
    check.read += value.length;
    if (performance.now() - turn > TURN_MS) {
      onProgress(check.read / file.size);
      await new Promise((resolve) => setTimeout(resolve));
      turn = performance.now();
    }
  }
  lines.end();
  check.finish();
  onProgress(1);
}

// Cuts a stream of bytes at line feeds.
class Lines {
  #rest = [];

  constructor(onLine) {
    this.onLine = onLine;
  }

  push(bytes) {
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      this.#line(bytes.subarray(start, end));
      start = end + 1;
    }
    if (start < bytes.length) this.#rest.push(bytes.subarray(start));
  }

  end() {
    if (this.#rest.length) this.#line(new Uint8Array());
  }

  #line(last) {
    if (!this.#rest.length) return this.onLine(last);
    const pieces = [...this.#rest, last];
    this.#rest = [];
    const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
    return this.onLine(whole);
  }
}
