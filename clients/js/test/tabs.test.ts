import assert from "node:assert/strict";
import { test } from "node:test";

import { client, counterpart, credits, eventually, nothing, READ, status, until } from "./waiting.ts";

test("every tab knows how many share, and one of them that it leads", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const tabs = [1, 2, 3].map(() => client(t, server, { silenceMs: 400 }));
  const leave = tabs.map((tab) => tab.subscribe(nothing));
  await Promise.all(tabs.map((tab) => until(tab, ({ tabs: count }) => count === 3)));
  assert.equal(tabs.filter(({ leading }) => leading).length, 1);
  const first = tabs.findIndex(({ leading }) => leading);
  leave[first]!();
  const left = tabs.filter((_, index) => index !== first);
  await Promise.all(left.map((tab) => until(tab, ({ tabs: count }) => count === 2)));
  await eventually(() => left.filter(({ leading }) => leading).length === 1);
  assert.deepEqual([tabs[first]!.tabs, tabs[first]!.leading], [1, false]);
});

test("where no stream comes through, one tab reads for all", async (t) => {
  const server = await counterpart(t);
  server.stream = "silent";
  server.set("ann", 5, 100);
  const tabs = [1, 2, 3].map(() => client(t, server, { patienceMs: 20, pollMs: 30, maxRetryMs: 60_000 }));
  for (const tab of tabs) tab.subscribe(nothing);
  await Promise.all(tabs.map((tab) => until(tab, status("polling"))));
  const [reads, since] = [server.count(READ), Date.now()];
  server.set("ann", 6, 90);
  await Promise.all(tabs.map((tab) => until(tab, credits(90))));
  assert.ok(server.count(READ) - reads <= (Date.now() - since) / 30 + 2);
});

test("a client that works alone leads itself", async (t) => {
  const server = await counterpart(t);
  const ann = client(t, server, { shareTabs: false });
  ann.subscribe(nothing);
  await until(ann, status("live"));
  assert.deepEqual([ann.tabs, ann.leading], [1, true]);
});
