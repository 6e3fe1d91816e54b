/** The steps that led to the total, the newest first: what is kept, and on top of it what happens now. */

import { useCallback, useEffect, useMemo, useReducer } from "react";

import { readHistory } from "./history.ts";
import type { CreditsClient } from "./options.ts";
import { useProvided } from "./provider.ts";
import type { Total } from "./total.ts";
import type { HistoryPage, Step } from "./transport.ts";

export interface CreditsHistoryOptions {
  /** How many steps a page has. Default 100, and over HTTP no more. */
  readonly limit?: number | undefined;
  /** Instead of the provider's. */
  readonly client?: CreditsClient | undefined;
}

export interface CreditsHistory {
  /** The newest first; the first is the total that the server told last. */
  readonly steps: readonly Step[];
  readonly isLoading: boolean;
  readonly error: string | null;
  /** Whether the server keeps history. Where it does not, there are only the steps seen since this component was mounted. */
  readonly isKept: boolean;
  readonly hasMore: boolean;
  /** Read the next page. Never rejects. */
  readonly loadMore: () => Promise<void>;
}

interface Past {
  readonly user: string | undefined;
  readonly steps: readonly Step[];
  readonly cursor: string | null;
  readonly isKept: boolean;
  readonly isLoading: boolean;
  readonly error: string | null;
}

type Event = { readonly happened: Total } | { readonly read: HistoryPage | null; readonly older: boolean } | { readonly failed: string } | { readonly asked: true };

const NOTHING: Past = { user: undefined, steps: [], cursor: null, isKept: false, isLoading: true, error: null };
/** How many steps are held, so that a page left open for a month does not grow for ever. */
const HELD = 5_000;

function after(past: Past, event: Event): Past {
  if ("asked" in event) return { ...past, isLoading: true };
  if ("failed" in event) return { ...past, isLoading: false, error: event.failed };
  if ("happened" in event) {
    const { happened } = event;
    const mine = past.user === undefined || past.user === happened.user_id;
    return { ...(mine ? past : { ...NOTHING, isLoading: false }), user: happened.user_id, steps: merged(mine ? past.steps : [], [happened]) };
  }
  const { read, older } = event;
  const cursor = read && (older || past.cursor === null) ? read.cursor : past.cursor;
  return { ...past, steps: merged(past.steps, read?.steps ?? []), cursor, isKept: read !== null, isLoading: false, error: null };
}

/** What was read says more of a step (its cause) than what was heard. */
function merged(known: readonly Step[], more: readonly Step[]): readonly Step[] {
  const all = new Map([...known, ...more].map((step) => [step.version, step]));
  return [...all.values()].filter(({ version }) => version > 0).sort((one, other) => other.version - one.version).slice(0, HELD);
}

/** Use the signed-in user's history, live at its head. */
export function useCreditsHistory({ limit = 100, client: given }: CreditsHistoryOptions = {}): CreditsHistory {
  const { client } = useProvided(given);
  const [past, tell] = useReducer(after, NOTHING);
  const read = useCallback(async (cursor?: string): Promise<void> => {
    tell({ asked: true });
    try {
      tell({ read: await readHistory(client, limit, cursor), older: cursor !== undefined });
    } catch (error) {
      tell({ failed: (error as Error).message });
    }
  }, [client, limit]);

  useEffect(() => {
    let last: Total | null = null;
    let wasLive = true;
    const look = (): void => {
      const { confirmed, status } = client.snapshot();
      const other = last !== null && last.user_id !== confirmed?.user_id;
      if (confirmed && confirmed !== last) tell({ happened: confirmed });
      // While the line was away there may have been more steps than the one it brought back.
      if ((status === "live" && !wasLive) || (other && confirmed)) void read();
      [last, wasLive] = [confirmed, status === "live"];
    };
    look();
    void read();
    return client.subscribe(look);
  }, [client, read]);

  const { cursor } = past;
  const loadMore = useCallback(async () => {
    if (cursor !== null) await read(cursor);
  }, [cursor, read]);
  const { steps, isLoading, error, isKept } = past;
  return useMemo(() => ({ steps, isLoading, error, isKept, hasMore: cursor !== null, loadMore }), [steps, isLoading, error, isKept, cursor, loadMore]);
}
