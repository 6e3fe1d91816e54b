import assert from "node:assert/strict";
import { test } from "node:test";

import { CreditsError } from "../src/index.ts";
import { tokenOf, total } from "./counterpart.ts";
import { client, counterpart, credits, eventually, nothing, Shelf, status, STREAM, until } from "./waiting.ts";

test("nothing is asked before somebody subscribes, and nothing is held after the last has left", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server);
  assert.equal(ann.status, "idle");
  const leave = [ann.subscribe(nothing), ann.subscribe(nothing)];
  await until(ann, status("live"));
  assert.equal(server.streams.size, 1);
  leave[0]!();
  leave[0]!();
  await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(ann.status, "live");
  leave[1]!();
  await eventually(() => server.streams.size === 0);
  assert.deepEqual([ann.status, server.asked.length], ["idle", 1]);
});

test("the current total comes first, then every newer one, and never an older one after it", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  const seen: number[] = [];
  ann.subscribe(({ total: now }) => now && seen.push(now.version));
  await until(ann, credits(100));
  server.set("ann", 7, 90);
  await until(ann, credits(90));
  server.set("ann", 6, 95);
  server.set("ann", 8, 80);
  await until(ann, credits(80));
  assert.deepEqual(seen, [...seen].sort());
  assert.ok(!seen.includes(6));
  ann.accept(total("ann", 7, 1));
  assert.equal(ann.total?.credits, 80);
  ann.accept(total("ann", 9, 70));
  assert.equal(ann.total?.credits, 70);
});

test("after a break it comes back by itself and says what it has", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  ann.subscribe(nothing);
  await until(ann, credits(100));
  server.end("shutdown");
  await eventually(() => server.count(STREAM) === 2);
  await until(ann, status("live"));
  assert.equal(server.asked[1]!.since, "5");
  await server.vanish();
  const { error } = await until(ann, status("offline"));
  assert.equal(error?.kind, "network");
  assert.equal(ann.total?.credits, 100);
  await server.open();
  server.set("ann", 6, 50);
  const { error: none } = await until(ann, status("live"));
  assert.equal(none, null);
  await until(ann, credits(50));
});

test("a connection on which nothing is heard counts as dead", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server, { silenceMs: 60 });
  ann.subscribe(nothing);
  await eventually(() => server.count(STREAM) >= 3);
  assert.equal(ann.error, null);
});

test("heartbeats keep a connection alive", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server, { silenceMs: 2_000 });
  ann.subscribe(nothing);
  await until(ann, status("live"));
  const beats = setInterval(() => server.say("ann", ": beat\n\n"), 100);
  await new Promise((resolve) => setTimeout(resolve, 2_600));
  clearInterval(beats);
  assert.equal(server.count(STREAM), 1);
});

test("a refused or expired token is replaced by a fresh one, which says why it is asked", async (t) => {
  const server = await counterpart(t);
  let serial = 1;
  const asked: boolean[] = [];
  const ann = client(t, server, {
    getToken: ({ fresh }) => {
      asked.push(fresh);
      return tokenOf("ann", fresh ? ++serial : serial);
    },
  });
  server.oldestSerial = 2;
  const statuses = new Set<string>();
  ann.subscribe((snapshot) => statuses.add(snapshot.status));
  await until(ann, status("live"));
  assert.equal(asked.filter(Boolean).length, 1);
  server.oldestSerial = 3;
  server.end("token_expired");
  await eventually(() => server.asked.at(-1)!.serial === 3);
  await until(ann, status("live"));
  assert.ok(!statuses.has("error"));
  server.oldestSerial = 4;
  assert.equal((await ann.refetch()).user_id, "ann");
});

test("refusals are values with a kind, the server's own words, and an end", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server, { maxRetryMs: 20 });
  const say = (text: string): string => JSON.stringify({ success: false, error: text });
  server.refusals.push(
    { status: 403, body: say("not yours") }, { status: 404, body: "no JSON" },
    { status: 429, body: say("slowly"), headers: { "Retry-After": "0.05" } }, { status: 500 },
  );
  const kinds = new Set<unknown>();
  ann.subscribe(({ error }) => error && kinds.add(`${error.kind} ${error.status}: ${error.message}`));
  await until(ann, status("live"));
  assert.deepEqual([...kinds], ["forbidden 403: not yours", "not_configured 404: the server answered 404", "busy 429: slowly", "server 500: the server answered 500"]);
  assert.equal(ann.error, null);
});

test("trouble that lasts is told once, to every tab", async (t) => {
  const server = await counterpart(t);
  const [one, two] = [client(t, server, { maxRetryMs: 10 }), client(t, server, { maxRetryMs: 10 })];
  const told: string[][] = [[], []];
  [one, two].forEach((each, index) => {
    let known: unknown = null;
    each.subscribe(({ error }) => {
      if (error && error !== known) told[index]!.push(error.kind);
      known = error;
    });
  });
  await until(two, status("live"));
  server.end("replaced");
  await Promise.all([one, two].map((each) => until(each, ({ error }) => error?.kind === "busy")));
  await until(two, status("live"));
  server.refusals.push(...Array.from({ length: 12 }, () => ({ status: 500 })));
  server.end("lagging");
  await eventually(() => server.refusals.length === 0);
  await until(two, status("live"));
  assert.deepEqual(told, [["busy", "server"], ["busy", "server"]]);
});

test("an answer that is not creditsd's is called malformed", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server);
  server.refusals.push({ status: 200, body: "<html>" });
  await assert.rejects(ann.refetch(), (error) => error instanceof CreditsError && error.kind === "malformed");
  server.refusals.push({ status: 200, body: '{"success":true,"data":{"version":"7"}}' });
  await assert.rejects(ann.refetch(), { kind: "malformed" });
  assert.equal(ann.error?.kind, "malformed");
  await ann.refetch();
  assert.equal(ann.error, null);
});

test("the last known total is shown while the network is away, to its user only", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  server.set("bob", 5, 7);
  const storage = new Shelf();
  await client(t, server, { storage }).refetch();
  const { url } = server;
  await server.vanish();
  let user = "ann";
  const away = client(t, server, { storage, url, getToken: () => tokenOf(user), shareTabs: false });
  away.subscribe(nothing);
  await until(away, status("offline"));
  assert.equal(away.total?.credits, 100);
  user = "bob";
  away.restart();
  await until(away, ({ total: now }) => !now);
  await until(away, status("offline"));
  assert.equal(away.total, null);
  assert.deepEqual([...storage.keys()], [], "what was ann's is gone from bob's browser");
});

test("a switch of account shows nothing of the account before, whenever it is noticed", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  server.set("bob", 4, 7);
  let user: string | null = "ann";
  const both = client(t, server, { getToken: () => user && tokenOf(user) });
  const seen: string[] = [];
  both.subscribe(({ total: now }) => seen.push(now ? `${now.user_id} ${now.credits}` : "nothing"));
  await until(both, credits(100));
  user = "bob";
  await both.refetch();
  assert.equal(both.total?.credits, 7);
  await eventually(() => [...server.streams.values()].join() === "bob");
  server.set("ann", 6, 99);
  server.set("bob", 5, 8);
  await until(both, credits(8));
  assert.ok(!seen.includes("ann 99") && !seen.slice(seen.indexOf("bob 7")).some((each) => each.startsWith("ann")));
  user = null;
  both.restart();
  const { total: gone } = await until(both, status("signed_out"));
  assert.equal(gone, null);
  await eventually(() => server.streams.size === 0);
  user = "ann";
  both.restart();
  await until(both, credits(99));
});

test("an answer that comes after the user has changed is not shown", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  let user = "ann";
  const both = client(t, server, { getToken: () => tokenOf(user) });
  const late = both.refetch();
  user = "bob";
  both.restart();
  await Promise.all([assert.rejects(late, { kind: "switched" }), both.refetch()]);
  assert.equal(both.total?.user_id, "bob");
});

test("getToken may fail, and is asked again", async (t) => {
  const server = await counterpart(t);
  let failures = 2;
  const ann = client(t, server, {
    getToken: async () => {
      if (failures-- > 0) throw new Error("the login server is away");
      return tokenOf("ann");
    },
    maxRetryMs: 10,
  });
  ann.subscribe(nothing);
  const { error } = await until(ann, status("error"));
  assert.deepEqual([error?.kind, error?.message], ["token", "the login server is away"]);
  await until(ann, status("live"));
});

test("two clients of one user share a connection, and the second takes over when the first goes", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const [one, two] = [client(t, server), client(t, server)];
  const other = client(t, server, { getToken: () => tokenOf("bob") });
  one.subscribe(nothing);
  await until(one, status("live"));
  two.subscribe(nothing);
  await Promise.all([until(two, credits(100)), until(two, status("live"))]);
  other.subscribe(nothing);
  await until(other, status("live"));
  assert.equal([...server.streams.values()].filter((user) => user === "ann").length, 1);
  server.set("ann", 6, 90);
  await Promise.all([one, two].map((each) => until(each, credits(90))));
  assert.equal(other.total?.credits, 0);
  one.close();
  await eventually(() => server.asked.filter(({ user }) => user === "ann").length === 2);
  server.set("ann", 7, 80);
  await until(two, credits(80));
  assert.deepEqual([one.status, one.total], ["closed", null]);
});

test("what one client reads, the others see", async (t) => {
  const server = await counterpart(t);
  const [one, two] = [client(t, server), client(t, server)];
  one.subscribe(nothing);
  two.subscribe(nothing);
  await Promise.all([until(one, status("live")), until(two, status("live"))]);
  server.totals.set("ann", total("ann", 9, 1234));
  await two.refetch();
  await until(one, credits(1234));
});

test("a token that names nobody works alone, without sharing and without a memory", async (t) => {
  const server = await counterpart(t);
  const storage = new Shelf();
  const two = [1, 2].map(() => client(t, server, { storage, getToken: () => tokenOf(undefined) }));
  for (const each of two) each.subscribe(nothing);
  await Promise.all(two.map((each) => until(each, ({ status: now, total: sum }) => now === "live" && sum)));
  assert.deepEqual([server.streams.size, storage.size], [2, 0]);
});

test("where tabs cannot find each other, each has a connection of its own", async (t) => {
  const server = await counterpart(t);
  const known = Object.getOwnPropertyDescriptor(navigator, "locks");
  t.after(() => known ? Object.defineProperty(navigator, "locks", known) : delete (navigator as { locks?: unknown }).locks);
  const denied = { request: () => Promise.reject(new DOMException("not in this frame", "SecurityError")) };
  for (const [users, locks] of [[["ann", "ann"], undefined], [["bob", "bob"], denied]] as const) {
    Object.defineProperty(navigator, "locks", { value: locks, configurable: true });
    const both = users.map((user) => client(t, server, { getToken: () => tokenOf(user) }));
    for (const each of both) each.subscribe(nothing);
    await Promise.all(both.map((each) => until(each, status("live"))));
    assert.equal([...server.streams.values()].filter((user) => user === users[0]).length, 2);
  }
});

test("a total that is offered is kept if it is this user's", async (t) => {
  const server = await counterpart(t);
  server.set("bob", 3, 7);
  let user = "ann";
  const both = client(t, server, { getToken: () => tokenOf(user) });
  both.accept(total("ann", 5, 100));
  assert.equal(both.total?.credits, 100, "what the page was rendered with");
  user = "bob";
  both.restart();
  both.accept(total("ann", 6, 101));
  await until(both, ({ total: now }) => !now);
  await both.refetch();
  both.accept(total("ann", 7, 102));
  both.accept(total("BOB", 4, 8));
  assert.deepEqual([both.total?.user_id, both.total?.credits], ["BOB", 8]);
  const other = client(t, server, { getToken: () => tokenOf("bob") });
  other.accept(total("ann", 5, 100));
  await other.refetch();
  assert.equal(other.total?.credits, 7);
});

test("a listener that throws stops neither the others nor the line", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server);
  // The test runner's own handler would call it a failure.
  const handlers = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  t.after(() => handlers.forEach((handler) => process.on("uncaughtException", handler)));
  const thrown = new Promise((resolve) => {
    process.once("uncaughtException", resolve);
  });
  let first = true;
  ann.subscribe(() => {
    if (!first) return;
    first = false;
    throw new Error("a listener's own bug");
  });
  await until(ann, status("live"));
  assert.match(String(await thrown), /a listener's own bug/);
});

test("a closed client does nothing more", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server);
  ann.subscribe(nothing);
  await until(ann, status("live"));
  ann.close();
  await eventually(() => server.streams.size === 0);
  ann.subscribe(nothing)();
  assert.equal(ann.status, "closed");
  await assert.rejects(ann.refetch(), { kind: "closed" });
});
