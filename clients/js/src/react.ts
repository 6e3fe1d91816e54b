"use client";
/** `creditsd/react`: the total as a hook, over one client for the whole application. */

export { RealtimeCreditsProvider, useCreditsClient } from "./provider.ts";
export type { RealtimeCreditsProviderProps } from "./provider.ts";
export { useRealtimeCredits } from "./use-realtime-credits.ts";
export type { RealtimeCredits, RealtimeCreditsOptions } from "./use-realtime-credits.ts";
export { useCredits, useCreditsSuspense } from "./use-credits.ts";
export { useCreditsHistory } from "./use-history.ts";
export type { CreditsHistory, CreditsHistoryOptions } from "./use-history.ts";
