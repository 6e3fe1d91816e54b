import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
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

test("the package has its three doors, each with its types", async (t) => {
  const here = fileURLToPath(new URL("..", import.meta.url));
  const app = mkdtempSync(join(tmpdir(), "creditsd-app-"));
  t.after(() => rmSync(app, { recursive: true }));
  const installed = join(app, "node_modules", "creditsd");
  mkdirSync(installed, { recursive: true });
  cpSync(join(here, "package.json"), join(installed, "package.json"));
  for (const peer of ["react", "zustand"]) symlinkSync(join(here, "node_modules", peer), join(app, "node_modules", peer));
  const run = promisify(execFile);
  await run(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "--project", join(here, "tsconfig.build.json"), "--outDir", join(installed, "dist")]);
  writeFileSync(join(app, "app.mjs"), `
    import { createCreditsClient, CreditsError } from "creditsd";
    import { RealtimeCreditsProvider, useCreditsClient, useRealtimeCredits } from "creditsd/react";
    import { createCreditsStore } from "creditsd/zustand";
    console.log([createCreditsClient, CreditsError, RealtimeCreditsProvider, useCreditsClient, useRealtimeCredits, createCreditsStore].map((each) => typeof each).join());
  `);
  const { stdout } = await run(process.execPath, [join(app, "app.mjs")]);
  assert.equal(stdout.trim(), Array(6).fill("function").join());
  for (const door of ["index", "react", "zustand"]) assert.ok(existsSync(join(installed, "dist", `${door}.d.ts`)));
});
