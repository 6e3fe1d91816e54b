import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { act, createElement, type ReactNode, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";

import { createCreditsClient, type CreditsClient, type Total } from "../src/index.ts";
import { type RealtimeCredits, type RealtimeCreditsOptions, RealtimeCreditsProvider, useRealtimeCredits } from "../src/react.ts";
import { Counterpart, tokenOf } from "./counterpart.ts";
import { page } from "./page.ts";
import { credits, eventually, status, STREAM, until } from "./waiting.ts";

interface Scene {
  readonly server: Counterpart;
  readonly client: CreditsClient;
  /** What the newest rendering of a component under test got. */
  readonly last: () => RealtimeCredits;
  readonly show: (...children: ReactNode[]) => Promise<void>;
  readonly unmount: () => Promise<void>;
  readonly Balance: (options: RealtimeCreditsOptions & { name?: string }) => ReactNode;
}

async function scene(t: TestContext): Promise<Scene> {
  const server = await new Counterpart().open();
  server.set("ann", 5, 100);
  const client = createCreditsClient({ url: server.url, getToken: () => tokenOf("ann"), maxRetryMs: 50, storage: null });
  const root: Root = createRoot(page.document.createElement("div") as unknown as Element);
  let last: RealtimeCredits | undefined;
  const Balance = (options: RealtimeCreditsOptions): ReactNode => {
    last = useRealtimeCredits(options);
    return `${last.credits?.credits ?? "none"}`;
  };
  t.after(async () => {
    await act(async () => root.unmount());
    client.close();
    await server[Symbol.asyncDispose]();
  });
  return {
    server, client, Balance, last: () => last!,
    show: (...children) => act(async () => root.render(createElement(StrictMode, null, ...children))),
    unmount: () => act(async () => root.render(null)),
  };
}

const within = (client: CreditsClient, ...children: ReactNode[]): ReactNode => createElement(RealtimeCreditsProvider, { client }, ...children);

test("in strict mode there is one connection, the total comes and changes, and unmounting ends it", async (t) => {
  const { server, client, Balance, last, show, unmount } = await scene(t);
  await show(within(client, createElement(Balance), createElement(Balance)));
  await act(() => until(client, credits(100)));
  assert.deepEqual([last().credits?.membership, last().isLoading, last().isSubscribed, last().error], ["Pro", false, true, null]);
  assert.deepEqual([server.streams.size, server.count(STREAM)], [1, 1]);
  server.set("ann", 6, 90);
  await act(() => until(client, credits(90)));
  assert.equal(last().credits?.credits, 90);
  await unmount();
  await eventually(() => server.streams.size === 0);
  assert.equal(client.status, "idle");
});

test("the provider's subscription outlives the components that come and go below it", async (t) => {
  const { server, client, Balance, show } = await scene(t);
  await show(within(client, createElement(Balance, { key: 1 })));
  await act(() => until(client, credits(100)));
  await show(within(client));
  await show(within(client, createElement(Balance, { key: 2 })));
  assert.equal(server.count(STREAM), 1);
});

test("onCreditsUpdate hears of every newer total with the one before, not of optimistic changes", async (t) => {
  const { server, client, Balance, show } = await scene(t);
  const heard: [number, number | undefined][] = [];
  const onCreditsUpdate = (now: Total, before: Total | null): number => heard.push([now.credits, before?.credits]);
  await show(within(client, createElement(Balance, { onCreditsUpdate })));
  await act(() => until(client, credits(100)));
  act(() => void client.optimistic(-3));
  server.set("ann", 6, 97);
  await act(() => until(client, ({ pending }) => !pending));
  assert.deepEqual(heard, [[100, undefined], [97, 100]]);
});

test("onError hears of what goes wrong, and it is gone when all is well again", async (t) => {
  const { server, client, Balance, last, show } = await scene(t);
  server.refusals.push({ status: 403, body: '{"success":false,"error":"not yours"}' });
  const heard: string[] = [];
  await show(within(client, createElement(Balance, { onError: (message, { kind }) => heard.push(`${kind}: ${message}`) })));
  await act(() => until(client, ({ error }) => error));
  assert.deepEqual([heard, last().isLoading, last().isSubscribed], [["forbidden: not yours"], false, false]);
  await act(() => until(client, status("live")));
  assert.equal(last().error, null);
});

test("without enableRealtime the total is read once, and again by refetch", async (t) => {
  const { server, client, Balance, last, show } = await scene(t);
  await show(createElement(Balance, { client, enableRealtime: false }));
  await act(() => until(client, credits(100)));
  assert.deepEqual([server.count("/v1/me/credits"), server.count(STREAM), last().isSubscribed], [1, 0, false]);
  server.set("ann", 6, 90);
  await act(async () => assert.equal((await last().refetch())?.credits, 90));
  assert.equal(last().credits?.credits, 90);
  await server.vanish();
  await act(async () => assert.equal(await last().refetch(), null));
  assert.deepEqual([last().error, last().failure?.kind], ["the server cannot be reached", "network"]);
});

test("a provider with the user as its key never shows one user the other's total", async (t) => {
  const { server, Balance, show, last, unmount } = await scene(t);
  const seen: string[] = [];
  const Seen = (): ReactNode => {
    const { credits: now } = useRealtimeCredits();
    seen.push(now ? `${now.user_id} ${now.credits}` : "nothing");
    return null;
  };
  server.set("bob", 1, 7);
  const provider = (user: string): ReactNode =>
    createElement(RealtimeCreditsProvider, { key: user, url: server.url, getToken: () => tokenOf(user), storage: null }, createElement(Balance), createElement(Seen));
  await show(provider("ann"));
  await act(() => eventually(() => last().credits?.user_id === "ann"));
  const before = seen.length;
  await show(provider("bob"));
  await act(() => eventually(() => last().credits?.credits === 7));
  assert.ok(!seen.slice(before).some((each) => each.startsWith("ann")), seen.join());
  await eventually(() => [...server.streams.values()].join() === "bob");
  await unmount();
  await eventually(() => server.streams.size === 0);
});

test("on a server it renders as loading and asks nothing", async (t) => {
  const { server, client, Balance, last } = await scene(t);
  assert.equal(renderToString(within(client, createElement(Balance))), "none");
  assert.deepEqual([last().isLoading, last().isSubscribed, last().credits, server.asked.length, client.status], [true, false, null, 0, "idle"]);
});

test("without a provider it says what is missing", async (t) => {
  const { Balance } = await scene(t);
  createCreditsClient({ url: "http://one.test", getToken: () => null });
  createCreditsClient({ url: "http://two.test", getToken: () => null });
  assert.throws(() => renderToString(createElement(Balance)), /several clients .* <RealtimeCreditsProvider/);
});
