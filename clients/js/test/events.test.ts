import assert from "node:assert/strict";
import { test } from "node:test";

import { CreditsError } from "../src/errors.ts";
import { eventReader } from "../src/events.ts";

function heard(pieces: readonly string[]): { events: [string, string][]; retries: number[] } {
  const events: [string, string][] = [];
  const retries: number[] = [];
  const feed = eventReader({ event: (name, data) => events.push([name, data]), retry: (ms) => retries.push(ms) });
  pieces.forEach(feed);
  return { events, retries };
}

const TEXT = 'retry: 1000\n\n: a heartbeat\n\nid: 7\ndata: {"a":1}\n\nevent: close\ndata:{"reason":"shutdown"}\n\ndata: two\ndata: lines\n\n';

test("the same events come out wherever the text is cut and however its lines end", () => {
  for (const ending of ["\n", "\r\n", "\r"]) {
    const text = `${TEXT.replaceAll("\n", ending)}${ending === "\r" ? ":" : ""}`;
    const whole = heard([text]);
    assert.deepEqual(whole, { events: [["message", '{"a":1}'], ["close", '{"reason":"shutdown"}'], ["message", "two\nlines"]], retries: [1000] });
    assert.deepEqual(heard([...text]), whole);
  }
});

test("an event without data, an unknown field and a senseless retry are passed over", () => {
  assert.deepEqual(heard(["event: x\n\nfoo: bar\nretry: soon\nid\n\n"]), { events: [], retries: [] });
});

test("a line without end is refused rather than kept", () => {
  assert.throws(() => heard(["data: ", "x".repeat(70_000)]), (error) => error instanceof CreditsError && error.kind === "malformed");
});
