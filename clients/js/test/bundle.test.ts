import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { bundle, target } from "../build.ts";
import type * as Package from "../src/index.ts";
import { Counterpart, tokenOf } from "./counterpart.ts";

test("the file that the daemon serves is what this source builds; `make client` writes it anew", async () => {
  assert.equal(readFileSync(target, "utf8"), await bundle());
});

test("it stays small", () => {
  const bytes = gzipSync(readFileSync(target), { level: 9 }).length;
  assert.ok(bytes < 5_000, `${bytes} bytes compressed`);
});

test("it works as it is", async () => {
  await using server = await new Counterpart().open();
  server.set("ann", 5, 100);
  const { createCreditsClient, CreditsError } = await import(target) as typeof Package;
  const client = createCreditsClient({ url: `${server.url}/`, getToken: async () => tokenOf("ann") });
  assert.equal((await client.refetch()).credits, 100);
  server.refusals.push({ status: 403 });
  await assert.rejects(client.refetch(), CreditsError);
});
