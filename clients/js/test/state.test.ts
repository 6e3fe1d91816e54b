import assert from "node:assert/strict";
import { test } from "node:test";

import { CreditsError } from "../src/index.ts";
import { State } from "../src/state.ts";
import { total } from "./counterpart.ts";

test("the same trouble met again is no news, other trouble and its end are", () => {
  const state = new State();
  let told = 0;
  state.listeners.add(() => told++);
  for (const text of ["away", "away", "gone", "gone"]) state.stand("offline", new CreditsError("network", text));
  assert.equal(told, 2);
  state.stand("live");
  state.stand("live");
  assert.deepEqual([told, state.current.error], [3, null]);
});

test("the snapshot is the same object until something changes", () => {
  const state = new State();
  state.accept(total("ann", 5, 100), 1);
  const before = state.current;
  state.accept(total("ann", 5, 100), 1);
  state.accept(total("ann", 4, 1));
  state.stand("idle");
  assert.equal(state.current, before);
});

test("a change that is over leaves no clock running", async () => {
  const clocks = (): number => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  const before = clocks();
  const state = new State();
  state.accept(total("ann", 5, 100));
  state.change(-5, undefined, 60_000, () => {});
  state.change(-1, 7, 60_000, () => {});
  assert.equal(clocks(), before + 2);
  state.accept(total("ann", 6, 95));
  state.accept(total("ann", 7, 94));
  assert.equal(clocks(), before);
  const written = Promise.resolve({ version: 8 });
  state.change(-5, written, 60_000, () => {});
  state.forget();
  await written;
  assert.equal(clocks(), before);
});
