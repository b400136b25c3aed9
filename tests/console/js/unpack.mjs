// Unpacks the Chromium that the package ships, with the libraries and the fonts that a bare machine lacks, into a folder.
import { chmodSync, createReadStream, createWriteStream, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { extract } from "tar-fs";

const target = process.argv[2];
const packed = join(import.meta.dirname, "node_modules/@sparticuz/chromium/bin");
mkdirSync(target, { recursive: true });
const inflate = (name, into) => pipeline(createReadStream(join(packed, name)), createBrotliDecompress(), into);
await inflate("chromium.br", createWriteStream(join(target, "chromium")));
await inflate("al2023.tar.br", extract(target));
await inflate("fonts.tar.br", extract(target));
// Where the folder will lie is the second argument: it is moved there once it is whole.
const fonts = join(resolve(process.argv[3]), "fonts");
writeFileSync(join(target, "fonts.conf"), `<?xml version="1.0"?><fontconfig><dir>${fonts}</dir><cachedir>${fonts}/cache</cachedir></fontconfig>`);
chmodSync(join(target, "chromium"), 0o755);
rmSync(packed, { recursive: true });
