/** `creditsd`: a user's credits, live in every tab. */

export { createCreditsClient } from "./client.ts";
export type { CreditsClient, CreditsClientOptions, GetToken } from "./client.ts";
export { CreditsError } from "./errors.ts";
export type { CreditsErrorKind } from "./errors.ts";
export type { Change, Listener, Snapshot, Status } from "./state.ts";
export type { MembershipStatus, PlanType, Total } from "./total.ts";
