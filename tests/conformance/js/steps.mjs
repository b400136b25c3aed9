// What every scenario does: make lines, upload, create, wait, read, and meet a refusal.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const OpenAI = createRequire(path.join(process.env.MODULES, "/"))("openai");
export const MODELS = (process.env.MODELS ?? "-").split(" ");
export const CHAT = "/v1/chat/completions";
const ENDS = new Set(["completed", "failed", "expired", "cancelled"]);

export const aFile = (content, name = "in.jsonl") => new File([content], name);
export const window24 = { endpoint: CHAT, completion_window: "24h" };

export function lines(prompts, model = MODELS[0], first = 0) {
  const rows = prompts.map((content, n) => ({
    custom_id: `row-${first + n}`, method: "POST", url: CHAT, body: { model, messages: [{ role: "user", content }] },
  }));
  return rows.map((row) => JSON.stringify(row) + "\n").join("");
}

export async function create(client, prompts, options = {}) {
  const uploaded = await client.files.create({ file: aFile(lines(prompts)), purpose: "batch" });
  return client.batches.create({ input_file_id: uploaded.id, ...window24, ...options });
}

export async function aFailedBatch(client) {
  const uploaded = await client.files.create({ file: aFile("\n"), purpose: "batch" });
  return client.batches.create({ input_file_id: uploaded.id, ...window24 });
}

export const hasEnded = (batch) => ENDS.has(batch.status);

export async function wait(client, id, until = hasEnded) {
  for (let look = 0; look < 2_400; look++) {
    const batch = await client.batches.retrieve(id);
    if (until(batch)) return batch;
    await sleep(100);
  }
  throw new Error(`${id} does not get there`);
}

export const text = async (client, id) => (await client.files.content(id)).text();

export async function rows(client, id) {
  const found = (await text(client, id)).trimEnd().split("\n").map((line) => JSON.parse(line));
  return Object.fromEntries(found.map((row) => [row.custom_id, row]));
}

export async function all(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

export async function refusal(kind, call) {
  const error = await call().then(() => assert.fail("it was not refused"), (raised) => raised);
  assert.ok(error instanceof kind, error);
  assert.match(error.requestID, /^req_/);
  return error;
}

export async function* aLongFile(bytes) {
  const line = lines(["x".repeat(2_000)]);
  const size = Buffer.byteLength(line);
  for (let sent = 0, n = 0; sent < bytes; sent += size, n++) {
    yield Buffer.from(line.replace("row-0", `row-${n % 10}`)); // of the same length; what it says is not looked at
  }
}
