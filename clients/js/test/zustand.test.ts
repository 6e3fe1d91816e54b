import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { createElement, type ReactNode } from "react";
import { renderToString } from "react-dom/server";

import { createCreditsClient, type CreditsClient } from "../src/index.ts";
import { createCreditsStore } from "../src/zustand.ts";
import { Counterpart, tokenOf, total } from "./counterpart.ts";
import { credits, eventually, until } from "./waiting.ts";

const STREAM = "/v1/me/credits/stream";

async function scene(t: TestContext): Promise<{ server: Counterpart; client: CreditsClient }> {
  const server = await new Counterpart().open();
  server.set("ann", 5, 100);
  const client = createCreditsClient({ url: server.url, getToken: () => tokenOf("ann"), maxRetryMs: 50, storage: null });
  t.after(async () => {
    client.close();
    await server[Symbol.asyncDispose]();
  });
  return { server, client };
}

test("the store has the names that components know, and renders on a server without asking anybody", async (t) => {
  const { server, client } = await scene(t);
  const useStore = createCreditsStore(client);
  const Balance = (): ReactNode => {
    const { getCreatorCredits, loadingGetCreatorCredits, errorGetCreatorCredits } = useStore();
    return `${getCreatorCredits?.credits ?? "none"} ${loadingGetCreatorCredits} ${errorGetCreatorCredits}`;
  };
  assert.equal(renderToString(createElement(Balance)), "none false null");
  const { fetchCreatorCredits, refreshCreatorCredits, setCredits } = useStore.getState();
  assert.deepEqual([fetchCreatorCredits, refreshCreatorCredits, setCredits].map((each) => typeof each), ["function", "function", "function"]);
  assert.equal(server.asked.length, 0);
});

test("fetch reads once, refresh every time, and loading tells", async (t) => {
  const { server, client } = await scene(t);
  const store = createCreditsStore(client);
  const fetching = store.getState().fetchCreatorCredits();
  assert.equal(store.getState().loadingGetCreatorCredits, true);
  await fetching;
  assert.deepEqual([store.getState().getCreatorCredits?.credits, store.getState().loadingGetCreatorCredits], [100, false]);
  await store.getState().fetchCreatorCredits();
  assert.equal(server.count("/v1/me/credits"), 1);
  server.set("ann", 6, 90);
  await store.getState().refreshCreatorCredits();
  assert.equal(store.getState().getCreatorCredits?.credits, 90);
  server.refusals.push({ status: 500, body: '{"success":false,"error":"out of order"}' });
  await store.getState().refreshCreatorCredits();
  assert.deepEqual([store.getState().errorGetCreatorCredits, store.getState().loadingGetCreatorCredits], ["out of order", false]);
});

test("while somebody uses the store it is live, and after the last has left nothing is held", async (t) => {
  const { server, client } = await scene(t);
  const store = createCreditsStore(client);
  const leave = [store.subscribe(() => {}), store.subscribe(() => {})];
  await until(client, credits(100));
  server.set("ann", 6, 90);
  await until(client, credits(90));
  assert.equal(store.getState().getCreatorCredits?.credits, 90);
  leave[0]!();
  leave[0]!();
  assert.equal(server.streams.size, 1);
  leave[1]!();
  await eventually(() => server.streams.size === 0);
  assert.equal(server.count(STREAM), 1);
});

test("without enableRealtime it mirrors the client and opens nothing", async (t) => {
  const { server, client } = await scene(t);
  const store = createCreditsStore(client, { enableRealtime: false });
  t.after(store.subscribe(() => {}));
  await client.refetch();
  assert.deepEqual([store.getState().getCreatorCredits?.credits, server.count(STREAM)], [100, 0]);
});

test("setCredits keeps a newer total, and shows anything else until a newer one comes", async (t) => {
  const { server, client } = await scene(t);
  const store = createCreditsStore(client);
  t.after(store.subscribe(() => {}));
  await until(client, credits(100));
  const { setCredits } = store.getState();
  setCredits({ ...store.getState().getCreatorCredits!, credits: 95 });
  assert.equal(store.getState().getCreatorCredits?.credits, 95);
  server.set("ann", 6, 94);
  await until(client, credits(94));
  setCredits(total("ann", 7, 80));
  setCredits(total("ann", 5, 1));
  assert.equal(client.pending, true);
  server.set("ann", 8, 79);
  await until(client, credits(79));
  assert.equal(store.getState().getCreatorCredits?.credits, 79);
});
