/** The total alone, or a part of it: a component renders anew when that part changes, and not before. */

import { useCallback, useRef, useSyncExternalStore } from "react";

import type { CreditsClient } from "./options.ts";
import { type Provided, useProvided } from "./provider.ts";
import type { Snapshot } from "./state.ts";
import type { Total } from "./total.ts";

type Select<T> = (credits: Total) => T;
type Same<T> = (one: T, other: T) => boolean;

const whole: Select<unknown> = (total) => total;

/** Use the total, or what a function makes of it; null before there is one. */
export function useCredits(): Total | null;
export function useCredits<T>(select: Select<T>, same?: Same<T>): T | null;
export function useCredits<T>(select: Select<T> = whole as Select<T>, same: Same<T> = Object.is): T | null {
  return useSelected(useProvided(), select, same)?.value ?? null;
}

/** The same, but suspended until there is a total: for use below <Suspense>, which shows something meanwhile. Raises what goes wrong. */
export function useCreditsSuspense(): Total;
export function useCreditsSuspense<T>(select: Select<T>, same?: Same<T>): T;
export function useCreditsSuspense<T>(select: Select<T> = whole as Select<T>, same: Same<T> = Object.is): T {
  const provided = useProvided();
  const selected = useSelected(provided, select, same);
  if (selected) return selected.value;
  // On a server there is nobody's token: React shows what <Suspense> says, and goes on in the browser.
  if (typeof window === "undefined") throw new Error("creditsd: credits are read in the browser, unless the provider is given an initialTotal");
  throw waiting(provided.client);
}

interface Selected<T> {
  readonly total: Total;
  readonly select: Select<T>;
  readonly value: T;
}

function useSelected<T>({ client, first }: Provided, select: Select<T>, same: Same<T>): { readonly value: T } | null {
  const last = useRef<Selected<T> | null>(null);
  const pick = ({ total }: Snapshot): Selected<T> | null => {
    const known = last.current;
    if (!total || (known?.total === total && known.select === select)) return total && known;
    const value = select(total);
    // What is the same as before stays the same object, and renders nothing.
    if (known?.select !== select || !same(known.value, value)) last.current = { total, select, value };
    return last.current;
  };
  const subscribe = useCallback((listener: () => void) => client.subscribe(listener), [client]);
  return useSyncExternalStore(subscribe, () => pick(client.snapshot()), () => pick(first));
}

const reads = new WeakMap<CreditsClient, { readonly promise: Promise<unknown>; failure?: unknown }>();

/** Give what to throw: a promise of the first total, or what went wrong with it. */
function waiting(client: CreditsClient): unknown {
  const known = reads.get(client);
  if (known && !known.failure) return known.promise;
  if (known) {
    // React renders a second time at once before it believes an error; whoever comes later, comes to try again.
    setTimeout(() => reads.get(client) === known && reads.delete(client));
    return known.failure;
  }
  const read: { promise: Promise<unknown>; failure?: unknown } = { promise: Promise.resolve() };
  read.promise = client.refetch().then(() => reads.delete(client), (failure: unknown) => {
    read.failure = failure;
  });
  reads.set(client, read);
  return read.promise;
}
