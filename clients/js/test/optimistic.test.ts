import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import type { CreditsClient, CreditsClientOptions } from "../src/index.ts";
import { type Counterpart, total } from "./counterpart.ts";
import { client, counterpart, credits, nothing, READ, status, until } from "./waiting.ts";

/** A client with 100 credits at version 5, and everything it has shown since. */
async function spending(t: TestContext, options: Partial<CreditsClientOptions> = {}): Promise<{ server: Counterpart; ann: CreditsClient; shown: number[] }> {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server, options);
  ann.subscribe(nothing);
  await until(ann, credits(100));
  await until(ann, status("live"));
  const shown: number[] = [];
  ann.subscribe(({ total: now }) => now && now.credits !== shown.at(-1) && shown.push(now.credits));
  return { server, ann, shown };
}

const confirmed = (version: number) => ({ confirmed: now }: { confirmed: { version: number } | null }): boolean => now?.version === version;

test("two spends of 5: 95, 90, and their confirmations change nothing that is seen", async (t) => {
  const { server, ann, shown } = await spending(t);
  ann.optimistic(-5);
  ann.optimistic(-5);
  server.set("ann", 6, 95);
  await until(ann, confirmed(6));
  assert.deepEqual([ann.total?.credits, ann.pending], [90, true]);
  server.set("ann", 7, 90);
  const { pending } = await until(ann, confirmed(7));
  assert.deepEqual([pending, shown], [false, [95, 90]]);
});

test("an unrelated change between them is added, and theirs stay on top of it", async (t) => {
  const { server, ann, shown } = await spending(t);
  ann.optimistic(-5);
  ann.optimistic(-5);
  for (const [version, amount] of [[6, 150], [7, 145], [8, 140]] as const) {
    server.set("ann", version, amount);
    await until(ann, confirmed(version));
  }
  assert.deepEqual([ann.pending, shown], [false, [95, 90, 140]]);
});

test("with versions it is exact, also where several changes come as one total", async (t) => {
  const { server, ann, shown } = await spending(t);
  ann.optimistic(-5, { until: 8 });
  ann.optimistic(-5, { until: 9 });
  server.set("ann", 7, 145);
  await until(ann, confirmed(7));
  assert.equal(ann.total?.credits, 135, "a version that is known is waited for, whatever the size of a change");
  server.set("ann", 9, 140);
  await until(ann, confirmed(9));
  assert.deepEqual([ann.pending, shown], [false, [95, 90, 135, 140]]);
});

test("a write that fails takes its own change back, and no other", async (t) => {
  const { server, ann, shown } = await spending(t);
  ann.optimistic(-5, { until: Promise.resolve({ version: 6 }) });
  ann.optimistic(-7, { until: Promise.reject(new Error("out of order")) });
  ann.optimistic(-1);
  await until(ann, credits(94));
  server.set("ann", 6, 95);
  await until(ann, confirmed(6));
  server.set("ann", 7, 94);
  await until(ann, confirmed(7));
  assert.deepEqual([ann.pending, shown], [false, [95, 88, 87, 94]]);
});

test("a total that comes before the answer of its write is not counted twice", async (t) => {
  const { server, ann, shown } = await spending(t);
  const answer = Promise.withResolvers<{ version: number }>();
  ann.optimistic(-5, { until: answer.promise });
  server.set("ann", 6, 95);
  await until(ann, confirmed(6));
  answer.resolve({ version: 6 });
  await answer.promise;
  server.set("ann", 7, 195);
  await until(ann, confirmed(7));
  assert.deepEqual([ann.pending, shown], [false, [95, 195]]);
});

test("somebody else's change of the same size is recognised once the version is known", async (t) => {
  const { server, ann } = await spending(t);
  const answer = Promise.withResolvers<{ version: number }>();
  ann.optimistic(-5, { until: answer.promise });
  server.set("ann", 6, 95);
  await until(ann, credits(95));
  answer.resolve({ version: 7 });
  await until(ann, credits(90));
  server.set("ann", 7, 90);
  await until(ann, ({ pending }) => !pending);
  assert.equal(ann.total?.credits, 90);
});

test("a total in the answer is the confirmation", async (t) => {
  const { ann, shown } = await spending(t);
  ann.optimistic(-5, { until: Promise.resolve(total("ann", 6, 95)) });
  await until(ann, confirmed(6));
  assert.deepEqual([ann.pending, shown], [false, [95]]);
});

test("without a stream the answer of a write is followed by a read that asks for its version", async (t) => {
  const server = await counterpart(t);
  server.set("ann", 5, 100);
  const ann = client(t, server, { stream: false, pollMs: 60_000 });
  ann.subscribe(nothing);
  await until(ann, status("polling"));
  server.totals.set("ann", total("ann", 6, 95));
  ann.optimistic(-5, { until: Promise.resolve({ version: 6 }) });
  await until(ann, confirmed(6));
  assert.deepEqual([ann.total?.credits, ann.pending, server.asked.at(-1)!.path], [95, false, `${READ}?min_version=6`]);
});

test("a change is taken back by hand once, and by time where nothing confirms it", async (t) => {
  const { server, ann, shown } = await spending(t, { optimisticMs: 40 });
  const undo = ann.optimistic(-10);
  undo();
  undo();
  ann.optimistic((now) => ({ ...now, membership: "Max" }));
  assert.equal(ann.total?.membership, "Max");
  ann.optimistic(-5);
  await until(ann, ({ pending }) => !pending);
  assert.deepEqual([ann.total?.membership, shown], ["Pro", [90, 100, 95, 100]]);
  server.set("ann", 6, 99);
  await until(ann, credits(99));
});

test("without a total there is nothing to change", async (t) => {
  const ann = client(t, await counterpart(t));
  assert.equal(ann.optimistic(-1)(), undefined);
  assert.equal(ann.total, null);
});
