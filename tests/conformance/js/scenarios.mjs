// What a colleague does with the official OpenAI SDK for JavaScript: the same stories as in `sdk_scenarios.py`.
//
// `node scenarios.mjs [NAME...]`, with OPENAI_BASE_URL, OPENAI_API_KEY and MODELS in the environment, and in MODULES the
// folder where npm has installed the SDK. Prints a line of JSON for each scenario: its name, and what went wrong or null.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import {
  CHAT, MODELS, OpenAI, aFile, window24, hasEnded, lines, create, aFailedBatch, wait, text, rows, all, refusal, aLongFile,
} from "./steps.mjs";

const UNKNOWN = "0192f0c2-0000-7000-8000-000000000000";
const AT_ONCE = 4;
const MIB = 1 << 20;
const FIELDS = [
  "id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window", "status", "output_file_id",
  "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at",
  "expired_at", "cancelling_at", "cancelled_at", "request_counts", "usage", "metadata", "x_details",
].sort();

const scenarios = {
  async upload_in_every_form(client) {
    const content = lines(["hello"]);
    const named = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "conformance-")), "named.jsonl");
    fs.writeFileSync(named, content);
    for (const [file, name] of [
      [aFile(content, "named.jsonl"), "named.jsonl"],
      [await OpenAI.toFile(Buffer.from(content)), "unknown_file"],
      [await OpenAI.toFile(Buffer.from(content), "upload"), "upload"],
      [fs.createReadStream(named), "named.jsonl"],
      [new Response(content), "unknown_file"],
    ]) {
      const uploaded = await client.files.create({ file, purpose: "batch" });
      assert.deepEqual(
        [uploaded.filename, uploaded.object, uploaded.purpose, uploaded.bytes],
        [name, "file", "batch", Buffer.byteLength(content)],
      );
      assert.equal(uploaded.expires_at, uploaded.created_at + 2_592_000);
      assert.equal((await client.files.waitForProcessing(uploaded.id, { maxWait: 5_000 })).status, "processed");
      assert.deepEqual(await client.files.retrieve(uploaded.id), uploaded);
      assert.equal(await text(client, uploaded.id), content);
    }
    fs.rmSync(path.dirname(named), { recursive: true });
  },

  async upload_with_an_expiry(client) {
    const expires_after = { anchor: "created_at", seconds: 3_600 };
    const uploaded = await client.files.create({ file: aFile(lines(["x"])), purpose: "batch", expires_after });
    assert.equal(uploaded.expires_at, uploaded.created_at + 3_600);
  },

  async upload_a_stream(client) {
    const stream = OpenAI.toStreamingFile(aLongFile(MIB), "stream.jsonl");
    const uploaded = await client.files.create({ file: stream, purpose: "batch" });
    assert.deepEqual([uploaded.filename, uploaded.status], ["stream.jsonl", "processed"]);
    const chunks = (await all(aLongFile(MIB))).map((chunk) => chunk.toString());
    assert.equal(await text(client, uploaded.id), chunks.join(""));
  },

  async upload_in_parts(client) {
    const content = Buffer.from(lines(Array.from({ length: 20 }, (_, n) => `question ${n}`)));
    const announced = { filename: "parts.jsonl", purpose: "batch", bytes: content.length, mime_type: "text/jsonl" };
    const upload = await client.uploads.create(announced);
    assert.deepEqual([upload.object, upload.status, upload.bytes], ["upload", "pending", content.length]);
    assert.equal(upload.expires_at, upload.created_at + 3_600);
    const pieces = [content.subarray(0, 1_000), content.subarray(1_000)];
    const parts = await Promise.all(pieces.map((piece) => client.uploads.parts.create(upload.id, { data: aFile(piece) })));
    const part_ids = parts.map((part) => part.id);
    await refusal(OpenAI.BadRequestError, () => client.uploads.complete(upload.id, { part_ids, md5: "0".repeat(32) }));
    const md5 = createHash("md5").update(content).digest("hex");
    const completed = await client.uploads.complete(upload.id, { part_ids, md5 });
    assert.deepEqual([completed.status, completed.file.filename], ["completed", "parts.jsonl"]);
    assert.deepEqual(await client.files.retrieve(completed.file.id), completed.file);
    assert.equal(await text(client, completed.file.id), content.toString());
    await refusal(OpenAI.BadRequestError, () => client.uploads.cancel(upload.id));
  },

  async cancel_an_upload_in_parts(client) {
    const announced = { filename: "a.jsonl", purpose: "batch", bytes: 10, mime_type: "text/jsonl" };
    const upload = await client.uploads.create(announced);
    const part = await client.uploads.parts.create(upload.id, { data: aFile("0123456789") });
    assert.deepEqual([part.object, part.upload_id], ["upload.part", upload.id]);
    assert.equal((await client.uploads.cancel(upload.id)).status, "cancelled");
    const late = await refusal(OpenAI.BadRequestError, () => client.uploads.complete(upload.id, { part_ids: [part.id] }));
    assert.equal(late.param, "upload_id");
    await refusal(OpenAI.NotFoundError, () => client.uploads.cancel(`upload_${UNKNOWN}`));
  },

  async send_a_create_again(client) {
    const uploaded = await client.files.create({ file: aFile("\n"), purpose: "batch" });
    const headers = { "Idempotency-Key": `create-${uploaded.id}` };
    const ask = (metadata) => client.batches.create({ input_file_id: uploaded.id, ...window24, metadata }, { headers });
    const first = await ask({ try: "one" });
    assert.equal((await ask({ try: "one" })).id, first.id);
    const reuse = await refusal(OpenAI.ConflictError, () => ask({ try: "two" }));
    assert.deepEqual([reuse.code, reuse.headers.get("x-should-retry")], ["idempotency_key_reuse", "false"]);
  },

  async run_a_batch_to_its_end(client) {
    const metadata = { "cast.ai/batch-name": "My content translation batch" };
    const batch = await create(client, ["question 0", "question 1", "question 2", "fail:400 please"], { metadata });
    assert.deepEqual([batch.object, batch.status, batch.endpoint], ["batch", "validating", CHAT]);
    assert.equal(batch.expires_at, batch.created_at + 86_400);
    const ended = await wait(client, batch.id);
    assert.deepEqual([ended.status, ended.model], ["completed", MODELS[0]]);
    assert.deepEqual([ended.metadata, ended.request_counts], [metadata, { total: 4, completed: 3, failed: 1 }]);
    const times = [ended.created_at, ended.in_progress_at, ended.finalizing_at, ended.completed_at];
    assert.deepEqual(times, times.toSorted((a, b) => a - b));
    const output = await rows(client, ended.output_file_id);
    const errors = await rows(client, ended.error_file_id);
    assert.deepEqual([Object.keys(output).length, Object.keys(errors)], [3, ["row-3"]]);
    assert.equal(output["row-2"].response.body.choices[0].message.content, "echo question 2");
    assert.deepEqual([errors["row-3"].response, errors["row-3"].error.message], [null, "as you asked"]);
    for (const kind of ["output", "error"]) {
      const file = await client.files.retrieve(ended[`${kind}_file_id`]);
      assert.deepEqual([file.purpose, file.filename], ["batch_output", `${batch.id}_${kind}.jsonl`]);
    }
    const listed = new Set((await all(client.files.list())).map((file) => file.id));
    assert.ok(listed.has(ended.output_file_id) && listed.has(ended.error_file_id));
  },

  async read_usage(client) {
    const ended = await wait(client, (await create(client, ["four", "fives"])).id);
    assert.deepEqual(ended.usage, {
      input_tokens: 9,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: 4,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 13,
    });
    assert.equal(ended.error_file_id, null);
  },

  async download_while_it_is_in_progress(client) {
    const batch = await create(client, ["quick 1", "quick 2", "quick 3", "slow:300 one"]);
    const running = await wait(client, batch.id, (b) => b.output_file_id !== null || hasEnded(b));
    assert.equal(running.status, "in_progress");
    const soFar = await rows(client, running.output_file_id);
    assert.ok(Object.keys(soFar).length >= 1 && Object.keys(soFar).length <= 3);
    assert.equal((await client.files.retrieve(running.output_file_id)).status, "uploaded");
    const inUse = await refusal(OpenAI.ConflictError, () => client.files.delete(running.output_file_id));
    assert.equal(inUse.code, "file_in_use");
    await wait(client, batch.id, (b) => b.request_counts.completed === 3);
    await client.batches.cancel(batch.id);
    const ended = await wait(client, batch.id);
    assert.equal(ended.output_file_id, running.output_file_id);
    const final = await rows(client, ended.output_file_id);
    assert.equal(Object.keys(final).length, 3);
    assert.equal((await client.files.retrieve(ended.output_file_id)).status, "processed");
    assert.partialDeepStrictEqual(final, soFar);
  },

  async cancel_a_running_batch(client) {
    const batch = await create(client, ["done 1", "done 2", "slow:300 1", "slow:300 2"]);
    await wait(client, batch.id, (b) => b.request_counts.completed === 2);
    const cancelling = await client.batches.cancel(batch.id);
    assert.deepEqual([cancelling.status, typeof cancelling.cancelling_at], ["cancelling", "number"]);
    assert.equal((await client.batches.cancel(batch.id)).cancelling_at, cancelling.cancelling_at);
    const ended = await wait(client, batch.id);
    assert.deepEqual([ended.status, ended.cancelling_at], ["cancelled", cancelling.cancelling_at]);
    assert.deepEqual(ended.request_counts, { total: 4, completed: 2, failed: 0 });
    const codes = Object.values(await rows(client, ended.error_file_id)).map((row) => row.error.code);
    assert.deepEqual(codes, ["batch_cancelled", "batch_cancelled"]);
    assert.deepEqual(await client.batches.cancel(batch.id), ended);
  },

  async cancel_what_has_ended(client) {
    const ended = await wait(client, (await aFailedBatch(client)).id);
    const error = await refusal(OpenAI.ConflictError, () => client.batches.cancel(ended.id));
    assert.deepEqual([error.type, error.code, error.param], ["invalid_request_error", null, null]);
    assert.equal(error.headers.get("x-should-retry"), "false");
  },

  async fail_validation(client) {
    const content = lines(["good"]) + "{not json\n\n" + lines(["other"], "no-such-model", 9);
    const uploaded = await client.files.create({ file: aFile(content), purpose: "batch" });
    const batch = await client.batches.create({ input_file_id: uploaded.id, ...window24 });
    const ended = await wait(client, batch.id);
    assert.equal(ended.status, "failed");
    const found = ended.errors.data.map(({ line, code, param }) => [line, code, param]);
    assert.deepEqual(found, [[2, "invalid_json_line", null], [4, "model_not_found", "body.model"]]);
    assert.deepEqual([ended.request_counts.total, ended.output_file_id, ended.error_file_id], [0, null, null]);
  },

  async list_with_auto_paging(client) {
    const created = [];
    for (let n = 0; n < 5; n++) created.push(await aFailedBatch(client));
    const ids = created.map((batch) => batch.id);
    const listed = (await all(client.batches.list({ limit: 2 }))).map((batch) => batch.id);
    assert.deepEqual(listed.filter((id) => ids.includes(id)), ids.toReversed());
    assert.equal(new Set(listed).size, listed.length);
    const files = created.map((batch) => batch.input_file_id);
    for (const [order, expected] of [["desc", files.toReversed()], ["asc", files]]) {
      const found = await all(client.files.list({ limit: 3, purpose: "batch", order }));
      assert.deepEqual(found.map((file) => file.id).filter((id) => files.includes(id)), expected);
    }
  },

  async delete_files(client) {
    const ended = await wait(client, (await create(client, ["x"])).id);
    for (const id of [ended.input_file_id, ended.output_file_id]) {
      assert.deepEqual({ ...(await client.files.delete(id)) }, { id, object: "file", deleted: true });
      for (const call of ["delete", "retrieve", "content"]) {
        assert.equal((await refusal(OpenAI.NotFoundError, () => client.files[call](id))).param, "id");
      }
    }
    assert.equal((await client.batches.retrieve(ended.id)).output_file_id, ended.output_file_id);
  },

  async use_models(client) {
    const listed = (await all(client.models.list())).map((model) => model.id);
    for (const name of MODELS) {
      assert.ok(listed.includes(name));
      assert.equal((await client.models.retrieve(name)).id, name);
    }
    const error = await refusal(OpenAI.NotFoundError, () => client.models.retrieve("some/other:model"));
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
  },

  async meet_clear_errors(client) {
    const wrong = new OpenAI({ apiKey: "sk-wrong" });
    const unauthorised = await refusal(OpenAI.AuthenticationError, () => wrong.models.list());
    assert.equal(unauthorised.code, "invalid_api_key");
    const upload = (content, name, options) =>
      client.files.create({ file: aFile(content, name), purpose: "batch", ...options });
    const ask = (fields) => client.batches.create({ input_file_id: `file_${UNKNOWN}`, ...window24, ...fields });
    const short = { anchor: "created_at", seconds: 1 };
    for (const [call, code, param] of [
      [() => upload("", "a.jsonl"), "empty_file", "file"],
      [() => upload("x", "a.txt"), "invalid_file_format", "file"],
      [() => upload("x", "a.jsonl", { purpose: "fine-tune" }), "invalid_value", "purpose"],
      [() => upload("x", "a.jsonl", { expires_after: short }), "integer_below_min_value", "expires_after.seconds"],
      [() => ask({ completion_window: "48h" }), "invalid_value", "completion_window"],
      [() => ask({ endpoint: "/v1/nothing" }), "invalid_value", "endpoint"],
    ]) {
      const error = await refusal(OpenAI.BadRequestError, call);
      assert.deepEqual([error.code, error.param, error.type], [code, param, "invalid_request_error"]);
    }
    for (const [call, param] of [
      [() => ask({}), "input_file_id"],
      [() => client.files.retrieve(`file_${UNKNOWN}`), "id"],
      [() => client.batches.retrieve(`batch_${UNKNOWN}`), null],
      [() => client.batches.cancel("batch_x"), null],
    ]) {
      const error = await refusal(OpenAI.NotFoundError, call);
      assert.deepEqual([error.code, error.param], [null, param]);
    }
  },

  async meet_limits_of_metadata(client) {
    const file = await client.files.create({ file: aFile("\n"), purpose: "batch" });
    const ask = (metadata) => client.batches.create({ input_file_id: file.id, ...window24, metadata });
    const pairs = (count, key, value) => Object.fromEntries(Array.from({ length: count }, (_, n) => [key(n), value]));
    for (const [metadata, code, param] of [
      [pairs(17, (n) => `${n}`, "x"), "object_above_max_properties", "metadata"],
      [{ ["k".repeat(65)]: "x" }, "string_above_max_length", "metadata"],
      [{ team: "x".repeat(513) }, "string_above_max_length", "metadata.team"],
    ]) {
      const error = await refusal(OpenAI.BadRequestError, () => ask(metadata));
      assert.deepEqual([error.code, error.param], [code, param]);
    }
    const most = pairs(16, (n) => "k".repeat(63) + n.toString(16), "\u00e9".repeat(512));
    assert.deepEqual((await client.batches.retrieve((await ask(most)).id)).metadata, most);
  },

  async read_a_batch(client) {
    const created = await create(client, ["x", "fail:400 y"]);
    const ended = await wait(client, created.id);
    for (const shown of [created, ended, ...(await client.batches.list({ limit: 5 })).data]) {
      assert.deepEqual(Object.keys(shown).sort(), FIELDS);
      const times = Object.entries(shown).filter(([name]) => name.endsWith("_at"));
      assert.ok(times.every(([, value]) => value === null || Number.isInteger(value)));
    }
    assert.deepEqual([created.status, ended.completion_window, ended.metadata], ["validating", "24h", null]);
    const unset = [ended.failed_at, ended.expired_at, ended.cancelling_at, ended.cancelled_at, ended.errors];
    assert.ok(unset.every((value) => value === null));
  },

  async read_request_ids(client) {
    const ids = [];
    for (const name of MODELS) ids.push((await client.models.retrieve(name))._request_id);
    assert.notEqual(ids[0], ids[1]);
    for (const id of ids) assert.match(id, /^req_/);
  },

  async send_a_conflict_once(client) {
    const ended = await wait(client, (await aFailedBatch(client)).id);
    let sent = 0;
    const counting = (...request) => {
      sent += 1;
      return fetch(...request);
    };
    await refusal(OpenAI.ConflictError, () => new OpenAI({ fetch: counting }).batches.cancel(ended.id));
    assert.equal(sent, 1);
  },

  async use_v1(client) {
    const shorter = new OpenAI({ baseURL: client.baseURL.replace("/openai/v1", "/v1") });
    assert.deepEqual((await shorter.models.list()).data, (await client.models.list()).data);
  },

  async use_a_base_url_with_a_slash(client) {
    for (const baseURL of [client.baseURL, `${client.baseURL}/`]) {
      assert.equal((await new OpenAI({ baseURL }).models.retrieve(MODELS[0])).id, MODELS[0]);
    }
  },

  async send_headers_of_an_organization() {
    const theirs = new OpenAI({ organization: "org-x", project: "proj_x" });
    assert.equal((await theirs.models.retrieve(MODELS[0])).id, MODELS[0]);
  },
};

// What is asked for by name only: too much for every run.
const measured = {
  async upload_100_mb_as_a_stream(client) {
    const stream = OpenAI.toStreamingFile(aLongFile(99 * MIB), "large.jsonl");
    const uploaded = await client.files.create({ file: stream, purpose: "batch" });
    assert.ok(uploaded.bytes >= 99 * MIB);
    assert.equal(uploaded.status, "processed");
  },

  async break_an_upload_off(client) {
    const controller = new AbortController();
    async function* endless() {
      for await (const chunk of aLongFile(20 * MIB)) yield chunk;
      controller.abort();
      await sleep(60_000);
    }
    const file = OpenAI.toStreamingFile(endless(), "broken.jsonl");
    const call = client.files.create({ file, purpose: "batch" }, { signal: controller.signal, maxRetries: 0 });
    await assert.rejects(() => call, OpenAI.APIUserAbortError);
  },
};

async function tell(name) {
  let problem = null;
  try {
    await { ...scenarios, ...measured }[name](new OpenAI({ maxRetries: 8 }));
  } catch (error) {
    problem = error.stack;
  }
  process.stdout.write(JSON.stringify({ scenario: name, problem }) + "\n");
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(scenarios);
const worker = async () => {
  while (wanted.length > 0) await tell(wanted.shift());
};
await Promise.all(Array.from({ length: AT_ONCE }, worker));
process.exit(0);
