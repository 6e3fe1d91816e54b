import assert from "node:assert/strict";
import { test } from "node:test";

import { CreditsError } from "../src/errors.ts";
import { type Next, afterEnd, afterError, backOff } from "../src/retry.ts";

const FIRST: Next = { failures: 0, fresh: false, waitMs: 0, firm: false };
const LONG = 60_000;

test("waits double up to their bound and are spread over all of it", () => {
  const bounds = [0, 1, 2, 10, 1000].map((failures) => [backOff(failures, 1000, 30_000, () => 0), backOff(failures, 1000, 30_000, () => 1)]);
  assert.deepEqual(bounds, [[100, 1100], [100, 2100], [100, 4100], [100, 30_100], [100, 30_100]]);
});

test("an expired token is replaced at once, but not again and again", () => {
  const first = afterEnd("token_expired", FIRST, LONG, 1000, 30_000);
  assert.deepEqual([first.waitMs, first.fresh], [0, true]);
  const second = afterEnd("token_expired", first, 10, 1000, 30_000);
  assert.ok(second.waitMs > 0 && second.fresh);
  assert.equal(afterEnd("token_expired", second, LONG, 1000, 30_000).waitMs, 0);
});

test("a refused token is replaced once, and then there is a wait", () => {
  const refused = new CreditsError("unauthorized", "", { status: 401 });
  const first = afterError(refused, FIRST, 1000, 30_000);
  assert.deepEqual([first.waitMs, first.fresh], [0, true]);
  const second = afterError(refused, first, 1000, 30_000);
  assert.ok(second.waitMs > 0 && second.fresh);
});

test("a stream that lasted forgets the failures before it", () => {
  const tired: Next = { ...FIRST, failures: 9 };
  assert.equal(afterEnd("lost", tired, LONG, 1000, 30_000).failures, 1);
  assert.equal(afterEnd("lost", tired, 10, 1000, 30_000).failures, 10);
});

test("who was replaced does not fight for its place", () => {
  const next = afterEnd("replaced", FIRST, LONG, 1000, 30_000);
  assert.ok(next.firm && next.waitMs >= 15_000, `${next.waitMs}`);
});

test("what the server asks to wait is waited, whatever a person does meanwhile", () => {
  const next = afterError(new CreditsError("busy", "", { status: 429, retryAfterMs: 7000 }), FIRST, 1000, 30_000);
  assert.ok(next.firm && next.waitMs >= 7000);
});

test("what time alone does not mend is tried seldom", () => {
  for (const kind of ["forbidden", "not_configured", "malformed"] as const) {
    assert.ok(afterError(new CreditsError(kind, ""), FIRST, 1000, 30_000).waitMs >= 15_000);
  }
});
