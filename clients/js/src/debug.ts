/** What a client says on the console, in the words that such clients use. */

import type { Listener, Snapshot, Status } from "./state.ts";

const WORDS: Readonly<Partial<Record<Status, string>>> = {
  live: "SUBSCRIBED", polling: "POLLING", offline: "CHANNEL_ERROR", error: "CHANNEL_ERROR", idle: "CLOSED", signed_out: "CLOSED", closed: "CLOSED",
};

/** Make a listener that says how the line stands and what comes, beginning after this snapshot. */
export function logger(first: Snapshot): Listener {
  let { status, confirmed: last } = first;
  return ({ status: now, confirmed, error }) => {
    if (now !== status && WORDS[now]) console.log("Credits subscription status:", WORDS[now], ...(error ? [error.message] : []));
    if (confirmed && confirmed !== last) console.log("Credits updated in real-time:", confirmed);
    [status, last] = [now, confirmed];
  };
}
