import assert from "node:assert/strict";
import { test } from "node:test";

import { act, createElement, type ReactNode } from "react";

import { type CreditsHistory, useCreditsHistory } from "../src/react.ts";
import { tokenOf, total } from "./counterpart.ts";
import { onPage, shown } from "./page.ts";
import { client, counterpart, status, until } from "./waiting.ts";

const steps = (count: number) => Array.from({ length: count }, (_, index) => total("ann", 100 - index, 100 - index));

test("history is read by pages, and live at its head", async (t) => {
  const server = await counterpart(t);
  server.history = steps(5);
  server.totals.set("ann", server.history[0]!);
  const ann = client(t, server);
  const page = onPage(t);
  let last: CreditsHistory | undefined;
  const Trend = (): ReactNode => {
    last = useCreditsHistory({ client: ann, limit: 2 });
    return null;
  };
  await page.show(createElement(Trend));
  assert.equal(last!.isLoading, true);
  await shown(() => !last!.isLoading && last!.isKept);
  await act(() => until(ann, status("live")));
  assert.deepEqual([last!.steps.map(({ credits }) => credits), last!.hasMore], [[100, 99], true]);
  await act(() => last!.loadMore());
  await act(() => last!.loadMore());
  assert.deepEqual([last!.steps.map(({ credits }) => credits), last!.hasMore], [[100, 99, 98, 97, 96], false]);
  await act(() => last!.loadMore());
  server.history.unshift(total("ann", 102, 250), total("ann", 101, 150));
  server.set("ann", 102, 250);
  await shown(() => last!.steps[0]?.credits === 250);
  await act(async () => void ann.optimistic(-5));
  assert.equal(last!.steps[0]?.credits, 250, "what is not confirmed is no history");
  server.end("shutdown");
  await shown(() => last!.steps[1]?.credits === 150);
  assert.equal(last!.error, null);
});

test("where the server keeps none, it begins with what is seen", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  const page = onPage(t);
  let last: CreditsHistory | undefined;
  await page.show(createElement(() => {
    last = useCreditsHistory({ client: ann });
    return null;
  }));
  await act(() => until(ann, status("live")));
  server.set("ann", 6, 90);
  await shown(() => last!.steps.length === 2 && !last!.isLoading);
  assert.deepEqual([last!.steps.map(({ credits }) => credits), last!.isKept, last!.hasMore], [[90, 100], false, false]);
  const asked = server.count("/v1/me/credits/history");
  await act(() => last!.loadMore());
  server.end("shutdown");
  await act(() => until(ann, ({ status: now }) => now !== "live"));
  await act(() => until(ann, status("live")));
  assert.equal(server.count("/v1/me/credits/history"), asked, "what it has not, it is not asked for again");
});

test("another user's steps take the place of the first one's, and what fails is said", async (t) => {
  const server = await counterpart(t);
  let user = "ann";
  server.history = steps(2);
  server.totals.set("ann", server.history[0]!);
  const both = client(t, server, { getToken: () => tokenOf(user) });
  const page = onPage(t);
  let last: CreditsHistory | undefined;
  await page.show(createElement(() => {
    last = useCreditsHistory({ client: both });
    return null;
  }));
  await shown(() => last!.steps.length === 2);
  user = "bob";
  server.history = [];
  server.set("bob", 7, 7);
  await act(async () => both.restart());
  await shown(() => last!.steps.map(({ credits }) => credits).join() === "7");
  await act(() => until(both, status("live")));
  server.broken = "/v1/me/credits/history";
  await page.show(createElement(() => {
    last = useCreditsHistory({ client: both, limit: 7 });
    return null;
  }));
  await shown(() => last!.error);
  assert.equal(last!.error, "out of order");
});
