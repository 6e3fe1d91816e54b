/** The total: what a user has, as the server tells it. */

export type MembershipStatus = "active" | "expired" | "none";
export type Level = "low" | "depleted";
export type PlanType = "subscription" | "one_time" | "none";

/** What a user has at one version. Of two totals of a user, the one with the higher version is true. */
export interface Total {
  readonly user_id: string;
  readonly version: number;
  readonly updated_at: string;
  /** Exact up to 2^53, as every number of JavaScript. */
  readonly credits: number;
  readonly membershipStatus: MembershipStatus;
  readonly planType: PlanType;
  readonly canBuy: boolean;
  readonly hasEverHadSubscription: boolean;
  /** One sentence for people. */
  readonly message: string;
  readonly subscription_id: string | null;
  readonly membership: string | null;
  readonly expires_at: string | null;
  /** Whether the credits are low or gone, else null. Only where the server has a threshold, and `low_credits` with it. */
  readonly level?: Level | null;
  /** At so many credits or fewer they are low. */
  readonly low_credits?: number;
}

/** Tell whether something that came from outside has what the client itself relies on. */
export function isTotal(value: unknown): value is Total {
  const total = value as Total | null | undefined;
  return typeof total?.user_id === "string" && Number.isSafeInteger(total.version) && typeof total.credits === "number";
}
