/** `creditsd`: a user's credits, live in every tab. */

export { createCreditsClient } from "./client.ts";
export type { CreditsClient, CreditsClientOptions, GetToken, OptimisticOptions } from "./options.ts";
export { CreditsError } from "./errors.ts";
export type { CreditsErrorKind } from "./errors.ts";
export type { Fetch } from "./http.ts";
export type { Shelf } from "./memory.ts";
export type { Change, Until } from "./pending.ts";
export type { Listener, Snapshot, Status } from "./state.ts";
export type { Level, MembershipStatus, PlanType, Total } from "./total.ts";
export type { Ask, HistoryAsk, HistoryPage, Listening, Reading, Step, Transport } from "./transport.ts";
