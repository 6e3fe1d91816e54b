import assert from "node:assert/strict";
import { test } from "node:test";

import { createCreditsClient } from "../src/index.ts";
import { client, counterpart, credits, eventually, nothing, READ, status, STREAM, until } from "./waiting.ts";
import { total } from "./counterpart.ts";

for (const stream of ["silent", "withheld"] as const) {
  test(`a stream that is ${stream} is replaced by reading, and is tried again now and then`, async (t) => {
    const server = await counterpart(t);
    server.stream = stream;
    server.set("ann", 5, 100);
    const ann = client(t, server, { patienceMs: 30, pollMs: 20 });
    ann.subscribe(nothing);
    const { error, lastSyncedAt } = await until(ann, status("polling"));
    assert.deepEqual([error, ann.total?.credits, Number.isInteger(lastSyncedAt)], [null, 100, true]);
    server.set("ann", 6, 90);
    await until(ann, credits(90));
    await eventually(() => server.count(STREAM) >= 2);
    assert.equal(ann.status, "polling");
    server.stream = "speaks";
    await until(ann, status("live"));
    const reads = server.count(READ);
    server.set("ann", 7, 80);
    await until(ann, credits(80));
    assert.ok(server.count(READ) <= reads + 1, "it reads no longer");
  });
}

test("a runtime whose answers have no readable body polls, and so does one whose fetch heeds no signal", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const unreadable = async (url: string, init: RequestInit): Promise<Response> => {
    const response = await fetch(url, init);
    return url.endsWith("/stream") ? ({ ok: true, headers: response.headers, body: undefined }) as unknown as Response : response;
  };
  // As React Native's: an answer is there when all of it is, and what is given up goes on.
  const whole = async (url: string, { signal: _, ...init }: RequestInit): Promise<Response> => {
    const response = await fetch(url, init);
    const text = await response.text();
    return new Response(text, response);
  };
  for (const given of [unreadable, whole]) {
    const ann = client(t, server, { fetch: given, patienceMs: 30, pollMs: 20, shareTabs: false });
    ann.subscribe(nothing);
    await until(ann, status("polling"));
    assert.equal(ann.total?.credits, 100);
    ann.close();
  }
});

test("a stream that dries up again and again after its opening is replaced by reading", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server, { silenceMs: 60, pollMs: 20 });
  ann.subscribe(nothing);
  await until(ann, status("polling"));
  server.set("ann", 6, 90);
  await until(ann, credits(90));
});

test("streams that are refused or cut off at once leave the reads, which go on", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const given = async (url: string, init: RequestInit): Promise<Response> =>
    url.endsWith("/stream") ? new Response("<html>", { status: 502 }) : fetch(url, init);
  const ann = client(t, server, { fetch: given, pollMs: 20 });
  ann.subscribe(nothing);
  await until(ann, status("polling"));
  assert.equal(ann.total?.credits, 100);
  const cut = setInterval(() => server.end("lagging"), 5);
  t.after(() => clearInterval(cut));
  const bob = client(t, server, { pollMs: 20, shareTabs: false });
  bob.subscribe(nothing);
  await until(bob, status("polling"));
});

test("while reading too fails it says so, and is right again with the server", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server, { stream: false, pollMs: 20 });
  ann.subscribe(nothing);
  await until(ann, status("polling"));
  await server.vanish();
  const { error } = await until(ann, status("offline"));
  assert.equal(error?.kind, "network");
  await server.open();
  server.set("ann", 6, 90);
  await until(ann, ({ total: now, status: stands, error: none }) => now?.credits === 90 && stands === "polling" && !none);
  assert.equal(server.count(STREAM), 0);
});

test("a request without an answer ends by itself, and does not hold up the next", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  server.hangs = 1;
  const ann = client(t, server, { timeoutMs: 1_300 });
  const hung = ann.refetch();
  assert.equal(ann.refetch(), hung, "who asks at the same time shares the read");
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  assert.equal((await ann.refetch()).credits, 100);
  await assert.rejects(hung, { kind: "network", message: "no answer within 1.3 s" });
});

test("a getToken that hangs is given up", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server, { timeoutMs: 20, getToken: () => new Promise(() => {}) });
  await assert.rejects(ann.refetch(), { kind: "token", message: "no answer within 0.04 s" });
});

test("storage may answer with promises", async (t) => {
  const server = await counterpart(t);
  const kept = new Map<string, string>();
  const storage = {
    getItem: async (key: string) => kept.get(key) ?? null,
    setItem: async (key: string, value: string) => kept.set(key, value),
    removeItem: async (key: string) => kept.delete(key),
  };
  server.set("ann", 5, 100);
  await client(t, server, { storage }).refetch();
  await eventually(() => kept.size === 1);
  const { url } = server;
  await server.vanish();
  const away = client(t, server, { storage, url });
  away.subscribe(nothing);
  const { lastSyncedAt } = await until(away, credits(100));
  assert.ok(lastSyncedAt! <= Date.now());
});

test("storage that fails, or holds what is none of ours, is done without", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const broken = { getItem: () => "{", setItem: () => { throw new Error("full"); }, removeItem: () => Promise.reject(new Error("no")) };
  const ann = client(t, server, { storage: broken });
  assert.equal((await ann.refetch()).credits, 100);
  ann.signOut();
});

test("an address that is none is one error, at once", () => {
  const getToken = (): null => null;
  assert.throws(() => createCreditsClient({ getToken }), { name: "TypeError", message: "creditsd: `url` is missing" });
  assert.throws(() => createCreditsClient({ getToken, url: "credits.example.com" }), /has no scheme: credits\.example\.com/);
  for (const url of ["", "/api/credits", "https://credits.example.com/", "HTTP://localhost:8321"]) createCreditsClient({ getToken, url }).close();
});

test("a page that is refused by its browser is told of that possibility", async (t) => {
  const server = await counterpart(t);
  await server.vanish();
  const online = Object.getOwnPropertyDescriptor(navigator, "onLine");
  Object.assign(globalThis, { document: { hidden: false } });
  Object.defineProperty(navigator, "onLine", { value: true, configurable: true });
  t.after(() => {
    delete (globalThis as { document?: unknown }).document;
    if (online) Object.defineProperty(navigator, "onLine", online);
    else delete (navigator as { onLine?: unknown }).onLine;
  });
  await assert.rejects(client(t, server).refetch(), { kind: "network", message: /CORS or CSP forbids it/ });
});

test("what the page was rendered with is shown until more is known", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 6, 90);
  const ann = client(t, server, { initialTotal: total("ann", 5, 100) });
  assert.equal(ann.total?.credits, 100);
  ann.subscribe(nothing);
  await until(ann, credits(90));
  assert.equal(ann.previous?.credits, 100);
  const other = client(t, server, { initialTotal: total("bob", 9, 7) });
  other.subscribe(nothing);
  await until(other, credits(90));
});
