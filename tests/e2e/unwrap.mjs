// Reads a webhook with the official OpenAI SDK for JavaScript: {body, headers, secret} in, the event out, as JSON.
// MODULES names the folder where npm has installed the SDK.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const OpenAI = createRequire(path.join(process.env.MODULES, "/"))("openai");
const { body, headers, secret } = JSON.parse(fs.readFileSync(0, "utf8"));
console.log(JSON.stringify(await new OpenAI({ apiKey: "unused" }).webhooks.unwrap(body, headers, secret)));
