import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { act, Component, createElement, type ReactNode, Suspense } from "react";
import { renderToString } from "react-dom/server";

import { createCreditsClient } from "../src/index.ts";
import {
  type RealtimeCredits, RealtimeCreditsProvider, useCredits, useCreditsClient, useCreditsSuspense, useRealtimeCredits,
} from "../src/react.ts";
import { tokenOf, total } from "./counterpart.ts";
import { onPage, shown } from "./page.ts";
import { client, counterpart, credits, status, until } from "./waiting.ts";

/** Catch what is written on the console. */
function listening(t: TestContext): string[] {
  const said: string[] = [];
  t.mock.method(console, "log", (...words: unknown[]) => said.push(words.map((word) => (typeof word === "string" ? word : JSON.stringify(word))).join(" ")));
  return said;
}

test("with a known total a lost line is not an error, and everything else of the line is in the hook", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  const page = onPage(t);
  let last: RealtimeCredits | undefined;
  const errors: string[] = [];
  await page.show(createElement(() => {
    last = useRealtimeCredits({ client: ann, onError: (error: string) => errors.push(error) });
    return null;
  }));
  await act(() => until(ann, status("live")));
  server.set("ann", 6, 90);
  await act(() => until(ann, credits(90)));
  const { previous, pending, lastSyncedAt, tabs, leading } = last!;
  assert.deepEqual([previous?.credits, pending, typeof lastSyncedAt, tabs, leading, last!.status], [100, false, "number", 1, true, "live"]);
  await act(async () => void ann.optimistic(-5));
  assert.deepEqual([last!.credits?.credits, last!.pending], [85, true]);
  await server.vanish();
  await act(() => until(ann, status("offline")));
  assert.deepEqual([last!.error, last!.failure?.kind, last!.isSubscribed, last!.isLoading, errors], [null, "network", false, false, []]);
  await act(() => last!.refetch());
  assert.deepEqual([last!.error, errors], ["the server cannot be reached", ["the server cannot be reached"]], "what a person asks for and does not get is one");
  await server.open();
  await act(() => until(ann, status("live")));
  assert.deepEqual([last!.error, last!.failure], [null, null]);
});

test("hook and provider need no options where the application made one client", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const made = createCreditsClient({ url: server.url, getToken: () => tokenOf("ann"), storage: null });
  t.after(() => made.close());
  const page = onPage(t);
  const Number = (): ReactNode => String(useRealtimeCredits().credits?.credits);
  await page.show(createElement(Number), createElement(RealtimeCreditsProvider, null, createElement(Number)));
  await act(() => until(made, credits(100)));
  assert.equal(page.element.innerHTML, "100100");
});

test("a selector renders when what it selects changes, and not before", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  const page = onPage(t, { strict: false });
  const rendered: unknown[] = [];
  const Plan = (): ReactNode => {
    const plan = useCredits(({ membership, canBuy }) => ({ membership, canBuy }), (one, other) => one.membership === other.membership);
    rendered.push(plan?.membership ?? null);
    return null;
  };
  const Amount = (): ReactNode => `${useCredits((now) => now.credits) ?? "none"} ${useCredits()?.version ?? ""}`;
  await page.show(createElement(RealtimeCreditsProvider, { client: ann }, createElement(Plan), createElement(Amount)));
  await act(() => until(ann, credits(100)));
  for (const [version, amount] of [[6, 90], [7, 80]] as const) {
    server.set("ann", version, amount);
    await act(() => until(ann, credits(amount)));
  }
  assert.equal(page.element.innerHTML, "80 7");
  assert.deepEqual(rendered, [null, "Pro"]);
});

test("useCreditsSuspense waits for the first total, and raises what goes wrong", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  t.mock.method(console, "error", () => {});
  let again = (): void => {};
  class Boundary extends Component<{ children: ReactNode }> {
    override state = { error: "" };
    static getDerivedStateFromError = ({ message }: Error): object => ({ error: message });
    override render(): ReactNode {
      again = () => this.setState({ error: "" });
      return this.state.error || this.props.children;
    }
  }
  const Amount = (): ReactNode => useCreditsSuspense((now) => now.credits);
  const within = (ann: ReturnType<typeof client>): ReactNode => createElement(RealtimeCreditsProvider, { client: ann },
    createElement(Boundary, null, createElement(Suspense, { fallback: "reading" }, createElement(Amount))));
  const ann = client(t, server);
  const page = onPage(t);
  await page.show(within(ann));
  await shown(() => page.element.innerHTML === "100");
  server.set("ann", 6, 90);
  await shown(() => page.element.innerHTML === "90");
  // Two are asked in vain: the read, and the stream.
  server.refusals.push(...Array(2).fill({ status: 403, body: '{"success":false,"error":"not yours"}' }));
  const bob = client(t, server, { getToken: () => tokenOf("bob") });
  const other = onPage(t);
  await other.show(within(bob));
  assert.equal(other.element.innerHTML, "reading");
  await shown(() => other.element.innerHTML.includes("not yours"));
  server.refusals.length = 0;
  // No person is as quick as React, which renders what fails a second time at once.
  await new Promise((resolve) => setTimeout(resolve, 1));
  await act(async () => again());
  await shown(() => other.element.innerHTML === "0");
});

test("the HTML of the server shows the number, and the page comes to life with it", async (t) => {
  const server = await counterpart(t);
  const known = total("ann", 5, 100);
  server.totals.set("ann", known);
  const wrong: unknown[] = [];
  t.mock.method(console, "error", (...words: unknown[]) => wrong.push(words));
  const Amount = (): ReactNode => {
    const { credits: now, isLoading } = useRealtimeCredits();
    return `${now?.credits} ${isLoading} ${useCreditsSuspense((all) => all.membership)} ${useCredits((all) => all.credits)}`;
  };
  const options = { url: server.url, getToken: () => tokenOf("ann"), initialTotal: known, storage: null };
  const within = (): ReactNode => createElement(RealtimeCreditsProvider, options, createElement(Amount));
  const given = createCreditsClient({ url: server.url, getToken: () => null, storage: null });
  t.after(() => given.close());
  const { window } = globalThis as { window?: unknown };
  delete (globalThis as { window?: unknown }).window;
  const html = renderToString(within());
  const other = renderToString(createElement(RealtimeCreditsProvider, { client: given, initialTotal: known }, createElement(Amount)));
  assert.throws(() => renderToString(createElement(RealtimeCreditsProvider, { client: given }, createElement(() => useCreditsSuspense().credits))), /read in the browser/);
  Object.assign(globalThis, { window });
  assert.deepEqual([html, other, given.total, server.asked.length], ["100 false Pro 100", "100 false Pro 100", null, 0]);
  const page = onPage(t, { html, strict: false });
  await page.show(within());
  assert.equal(page.element.innerHTML, "100 false Pro 100");
  await shown(() => server.streams.size === 1);
  server.set("ann", 6, 90);
  await shown(() => page.element.innerHTML === "90 false Pro 90");
  assert.deepEqual(wrong, []);
});

test("the client itself stays the same and renders nothing", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  const page = onPage(t, { strict: false });
  let renders = 0;
  const Button = (): ReactNode => {
    renders++;
    return useCreditsClient() === ann ? "same" : "other";
  };
  await page.show(createElement(RealtimeCreditsProvider, { client: ann }, createElement(Button)));
  await act(() => until(ann, credits(100)));
  server.set("ann", 6, 90);
  await act(() => until(ann, credits(90)));
  assert.deepEqual([page.element.innerHTML, renders], ["same", 1]);
});

test("debug says how the line stands and what comes, in the words that such hooks use", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server);
  const said = listening(t);
  const page = onPage(t, { strict: false });
  await page.show(createElement(() => {
    useRealtimeCredits({ client: ann, debug: true });
    return null;
  }));
  await act(() => until(ann, status("live")));
  await act(() => until(ann, credits(100)));
  await server.vanish();
  await act(() => until(ann, status("offline")));
  await page.show();
  assert.ok(said.includes("Credits subscription status: SUBSCRIBED"), said.join("\n"));
  assert.ok(said.some((line) => /^Credits updated in real-time: \{.*"credits":100/.test(line)), said.join("\n"));
  assert.ok(said.includes("Credits subscription status: CHANNEL_ERROR the server cannot be reached"), said.join("\n"));
});
