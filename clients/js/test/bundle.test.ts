import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

import { bundle, INTERNAL, target } from "../build.ts";
import type * as Package from "../src/index.ts";
import { Counterpart, tokenOf } from "./counterpart.ts";

const here = fileURLToPath(new URL("..", import.meta.url));

test("the file that the daemon serves is what this source builds; `make client` writes it anew", async () => {
  assert.equal(readFileSync(target, "utf8"), await bundle());
});

test("it stays small", () => {
  const bytes = gzipSync(readFileSync(target), { level: 9 }).length;
  assert.ok(bytes < 6_000, `${bytes} bytes compressed`);
});

test("no name is shortened that a page, a transport or another tab knows", () => {
  const source = readdirSync(join(here, "src")).map((name) => readFileSync(join(here, "src", name), "utf8")).join("\n");
  const exported = readFileSync(join(here, "src/index.ts"), "utf8").matchAll(/export type \{([^}]*)\}/g);
  const types = [...exported].flatMap(([, names]) => names!.split(",").map((name) => name.trim()));
  const known = [...types, "Message", "Hello", "News", "Kept"].flatMap((type) => {
    const [, body = ""] = new RegExp(`^(?:export )?interface ${type}\\b[^{]*\\{\\n(.*?)^\\}`, "ms").exec(source) ?? [];
    return [...body.matchAll(/^  (?:readonly )?(\w+)\??[:(<]/gm)].map(([, name]) => name!);
  });
  for (const name of ["total", "initialTotal", "subscribe", "getToken", "selfKeeping", "getItem", "eager", "out", "at"]) assert.ok(known.includes(name), name);
  assert.deepEqual(INTERNAL.filter((name) => known.includes(name)), []);
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

const run = promisify(execFile);

/** Put the package, as it is built now, beside the React and Zustand of a directory. */
async function installed(directory: string): Promise<void> {
  const place = join(directory, "node_modules", "creditsd");
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  cpSync(join(here, "package.json"), join(place, "package.json"));
  const tsc = join(here, "node_modules/typescript/bin/tsc");
  await run(process.execPath, [tsc, "--project", join(here, "tsconfig.build.json"), "--outDir", join(place, "dist")]);
  await run(process.execPath, [tsc, "--project", join(here, "tsconfig.cjs.json"), "--outDir", join(place, "dist/cjs")]);
  writeFileSync(join(place, "dist/cjs/package.json"), '{"type":"commonjs"}');
}

test("the package has its doors, each with its types, maps, and what React needs said first", async (t) => {
  const app = mkdtempSync(join(tmpdir(), "creditsd-app-"));
  t.after(() => rmSync(app, { recursive: true }));
  await installed(app);
  for (const peer of ["react", "zustand"]) symlinkSync(join(here, "node_modules", peer), join(app, "node_modules", peer));
  writeFileSync(join(app, "app.mjs"), `
    import * as doors from "creditsd";
    import * as react from "creditsd/react";
    import * as zustand from "creditsd/zustand";
    import * as supabase from "creditsd/supabase";
    import * as server from "creditsd/server";
    console.log([doors, react, zustand, supabase, server].map((door) => Object.keys(door).sort().join(" ")).join("\\n"));
  `);
  const { stdout } = await run(process.execPath, [join(app, "app.mjs")]);
  assert.equal(stdout.trim(), [
    "CreditsError createCreditsClient",
    "RealtimeCreditsProvider useCredits useCreditsClient useCreditsHistory useCreditsSuspense useRealtimeCredits",
    "createCreditsStore", "supabaseCredits", "CreditsError readCredits",
  ].join("\n"));
  const dist = join(app, "node_modules/creditsd/dist");
  for (const door of ["index", "react", "zustand", "supabase", "server"]) {
    for (const file of [`${door}.d.ts`, `${door}.js.map`, `cjs/${door}.d.ts`, `cjs/${door}.js.map`]) assert.ok(existsSync(join(dist, file)), file);
  }
  assert.match(readFileSync(join(dist, "react.js"), "utf8"), /^"use client";/);
  assert.match(readFileSync(join(dist, "cjs/react.js"), "utf8"), /^"use strict";\s*"use client";/);
});

test("the oldest React and Zustand do, and so does require", async (t) => {
  const fixture = join(here, "test/react18");
  if (!existsSync(join(fixture, "node_modules/react"))) return t.skip("test/react18 is not installed: make test does that");
  await using server = await new Counterpart().open();
  server.set("ann", 5, 100);
  await installed(fixture);
  const env = { ...process.env, CREDITSD_URL: server.url, TOKEN: tokenOf("ann") };
  const [modules, required] = await Promise.all([
    run(process.execPath, ["app.mjs"], { cwd: fixture, env }),
    // As it was before Node could `require` modules.
    run(process.execPath, ["--no-experimental-require-module", "app.cjs"], { cwd: fixture, env }),
  ]);
  assert.deepEqual(JSON.parse(modules.stdout), { html: "5 Pro 4", came: 100, error: true });
  assert.deepEqual(JSON.parse(required.stdout), { html: "true", came: 100, server: "function" });
});
