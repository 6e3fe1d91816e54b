import assert from "node:assert/strict";
import { test } from "node:test";

import { tokenOf } from "./counterpart.ts";
import { client, counterpart, credits, eventually, nothing, Shelf, status, STREAM, until } from "./waiting.ts";

test("signing out clears memory and storage in all tabs at once, and stays until somebody signs in", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  server.set("bob", 5, 7);
  const storage = new Shelf();
  let user = "ann";
  const tabs = [1, 2, 3].map(() => client(t, server, { storage, getToken: () => tokenOf(user) }));
  for (const tab of tabs) tab.subscribe(nothing);
  await Promise.all(tabs.map((tab) => until(tab, credits(100))));
  await eventually(() => storage.size === 1);
  tabs[1]!.signOut();
  assert.deepEqual([tabs[1]!.total, tabs[1]!.status], [null, "signed_out"]);
  await Promise.all(tabs.map((tab) => until(tab, ({ total, status: stands }) => !total && stands === "signed_out")));
  await eventually(() => server.streams.size === 0 && storage.size === 0);
  await assert.rejects(tabs[0]!.refetch(), { kind: "signed_out" });
  user = "bob";
  tabs[2]!.restart();
  await Promise.all(tabs.map((tab) => until(tab, credits(7))));
  user = "ann";
  tabs[0]!.restart();
  await Promise.all(tabs.map((tab) => until(tab, credits(100))));
});

test("signing out before anybody is known, or while nobody listens, reaches the other tabs too", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const storage = new Shelf();
  const [held, idle] = [client(t, server, { storage }), client(t, server, { storage })];
  held.subscribe(nothing);
  await until(held, credits(100));
  await idle.refetch();
  idle.signOut();
  assert.equal(idle.total, null);
  await until(held, status("signed_out"));
  assert.equal(held.total, null);
  const early = client(t, server, { storage });
  early.signOut();
  await assert.rejects(early.refetch(), { kind: "signed_out" });
});

test("another user in another tab is noticed by every tab, also by one that keeps tokens", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  server.set("bob", 5, 7);
  let user = "ann";
  const keeping = (): (ask: { fresh: boolean }) => string => {
    let token: string | undefined;
    return ({ fresh }) => (token = !fresh && token ? token : tokenOf(user));
  };
  const [one, two] = [client(t, server, { getToken: keeping() }), client(t, server, { getToken: keeping() })];
  const seen: string[] = [];
  for (const tab of [one, two]) tab.subscribe(nothing);
  await Promise.all([one, two].map((tab) => until(tab, credits(100))));
  user = "bob";
  two.subscribe(({ total }) => total && seen.push(total.user_id));
  const next = client(t, server, { getToken: keeping() });
  next.subscribe(nothing);
  await Promise.all([one, two, next].map((tab) => until(tab, credits(7))));
  assert.ok(!seen.slice(seen.indexOf("bob")).includes("ann"), seen.join());
  await eventually(() => [...server.streams.values()].join() === "bob");
});

test("tabs of different users side by side leave each other alone", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  server.set("bob", 5, 7);
  const asked = { ann: 0, bob: 0 };
  const [ann, bob] = (["ann", "bob"] as const).map((user) => client(t, server, {
    getToken: () => {
      asked[user]++;
      return tokenOf(user);
    },
  })) as [ReturnType<typeof client>, ReturnType<typeof client>];
  ann.subscribe(nothing);
  await until(ann, credits(100));
  bob.subscribe(nothing);
  await until(bob, credits(7));
  await eventually(() => asked.ann === 3 || asked.ann === 2);
  bob.signOut();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([ann.total?.credits, ann.status], [100, "live"]);
  assert.ok(asked.ann <= 4, `${asked.ann}`);
});

test("a restart for the same user shows what was shown", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server, { getToken: async () => tokenOf("ann") });
  ann.subscribe(nothing);
  await until(ann, status("live"));
  const seen: unknown[] = [];
  ann.subscribe(({ total }) => seen.push(total?.credits));
  ann.restart();
  await until(ann, status("live"));
  server.set("ann", 6, 90);
  await until(ann, credits(90));
  assert.deepEqual([...new Set(seen)], [100, 90]);
});

test("a restart for another user shows nothing of the one before, and one that cannot tell who it is forgets", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  let give = async (): Promise<string> => tokenOf("ann");
  const ann = client(t, server, { getToken: () => give() });
  ann.subscribe(nothing);
  await until(ann, status("live"));
  give = () => Promise.reject(new Error("away"));
  ann.restart();
  const { total } = await until(ann, ({ total: now }) => !now);
  assert.equal(total, null);
  give = async () => tokenOf("bob");
  server.set("bob", 3, 7);
  ann.restart();
  await until(ann, credits(7));
});

test("a token that is renewed before it ends costs no moment without a line", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  let serial = 0;
  const ann = client(t, server, {
    getToken: ({ fresh }) => {
      if (fresh || !serial) serial++;
      return tokenOf("ann", serial, Math.floor(Date.now() / 1000) + 2);
    },
  });
  ann.subscribe(nothing);
  await until(ann, status("live"));
  const stood = new Set<string>();
  ann.subscribe(({ status: now }) => stood.add(now));
  let most = 0;
  await eventually(() => {
    most = Math.max(most, server.streams.size);
    return server.asked.filter(({ path }) => path === STREAM).at(-1)!.serial === 2 && server.streams.size === 1;
  });
  server.set("ann", 6, 90);
  await until(ann, credits(90));
  assert.deepEqual([...stood], ["live"]);
  assert.equal(server.count(STREAM), 2);
});

test("where there is no newer token yet the old line goes on", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const token = tokenOf("ann", 1, Math.floor(Date.now() / 1000) + 2);
  const asked: boolean[] = [];
  const ann = client(t, server, {
    getToken: ({ fresh }) => {
      asked.push(fresh);
      return token;
    },
  });
  ann.subscribe(nothing);
  await eventually(() => asked.includes(true));
  server.set("ann", 6, 90);
  await until(ann, credits(90));
  assert.equal(server.count(STREAM), 1);
});
