/** All tabs of one user as a group: one of them, the leader, holds the connection and tells the others. */

import { looking } from "./page.ts";
import type { Status } from "./state.ts";
import type { CreditsErrorKind } from "./errors.ts";
import type { Total } from "./total.ts";

export interface Message {
  /** The newest total the sender knows. */
  readonly total?: Total | null;
  /** The leader only: how the line stands. */
  readonly status?: Status;
  readonly error?: { readonly kind: CreditsErrorKind; readonly message: string } | null;
}

/** A question for the leader; `eager` asks it to try now rather than when its wait is over. */
interface Hello {
  readonly hello: { readonly eager: boolean };
}

export interface Tab {
  /** Hold the connection until the signal. To return earlier is to leave the group. */
  lead(signal: AbortSignal): Promise<void>;
  hear(message: Message): void;
  /** What a leader answers a tab that has just come. */
  tell(): Message;
  /** Somebody asks to try now. */
  nudge(): void;
}

export interface Group {
  say(message: Message): void;
  hello(eager: boolean): void;
  readonly leading: boolean;
}

/** How many questions of a visible follower may stay unanswered. */
const UNANSWERED = 3;

/** Tell whether this browser lets tabs find each other; where it does not, each has a connection of its own. */
export function sharing(): boolean {
  return typeof BroadcastChannel === "function" && typeof navigator === "object" && !!navigator.locks;
}

/** Make a controller that is aborted with another signal. */
export function child(signal: AbortSignal): AbortController {
  const controller = new AbortController();
  if (signal.aborted) controller.abort();
  signal.addEventListener("abort", () => controller.abort(), { once: true, signal: controller.signal });
  return controller;
}

/** Resolve when a signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * Belong to the group of this name until the signal, or until `lead` returns; `joined` is given the way to talk. A visible
 * follower makes sure every `askMs` that there is a leader.
 */
export async function belong(name: string, signal: AbortSignal, askMs: number, tab: Tab, joined: (group: Group) => void): Promise<void> {
  const channel = new BroadcastChannel(name);
  let leading = false;
  let unanswered = 0;
  let steal = false;
  let here = true;
  let asking = child(signal);
  const post = (message: Message | Hello): void => {
    if (here && !signal.aborted) channel.postMessage(message);
  };
  const hello = (eager: boolean): void => post({ hello: { eager } });

  channel.onmessage = ({ data }: MessageEvent<Message | Hello>) => {
    if (signal.aborted) return;
    if ("hello" in data) {
      if (!leading) return;
      if (data.hello.eager) tab.nudge();
      post(tab.tell());
    } else {
      if (data.status) unanswered = 0;
      tab.hear(data);
    }
  };
  // A leader that the browser froze or that hangs holds its lock all the same. Who is looked at takes it over.
  const watch = setInterval(() => {
    unanswered = leading || !looking() ? 0 : unanswered + 1;
    if (unanswered > UNANSWERED) {
      steal = true;
      asking.abort();
    } else if (unanswered > 0) hello(false);
  }, askMs);

  joined({ say: post, hello, get leading() { return leading; } });
  hello(false);
  try {
    while (!signal.aborted) {
      const reign = (asking = child(signal));
      const options: LockOptions = steal ? { steal } : { signal: asking.signal };
      steal = false;
      try {
        await navigator.locks.request(name, options, async () => {
          leading = true;
          unanswered = 0;
          // Not `lead` alone: a tab about to be frozen has no time to wait until that has tidied up.
          await Promise.race([tab.lead(reign.signal), aborted(reign.signal)]);
        });
        return;
      } catch (error) {
        // Given up waiting, or another tab took the lock. Anything else: this page may have no locks after all.
        if ((error as Error).name !== "AbortError") return await tab.lead(signal);
      } finally {
        leading = false;
        unanswered = 0;
        reign.abort();
      }
    }
  } finally {
    here = false;
    clearInterval(watch);
    channel.close();
  }
}
