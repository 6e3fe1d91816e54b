/** `creditsd/supabase`: the same client without a server of ours: totals by Realtime Broadcast, reads by PostgREST. */

import type { SupabaseClient } from "@supabase/supabase-js";

import { CreditsError, type CreditsErrorKind } from "./errors.ts";
import type { GetToken } from "./options.ts";
import type { End } from "./retry.ts";
import { aborted } from "./timing.ts";
import { isTotal, type Level, type MembershipStatus, type PlanType, type Total } from "./total.ts";
import type { HistoryAsk, HistoryPage, Listening, Reading, Step, Transport } from "./transport.ts";

export interface SupabaseCreditsOptions {
  /** The schema of creditsd, which is among the exposed ones. Default "creditsd". */
  readonly schema?: string | undefined;
  /** The private topic of a user, as the sink sends to it. Default `credits:${userId}`. */
  readonly topic?: ((userId: string) => string) | undefined;
}

/** Give what `createCreditsClient` needs to work over a Supabase project: `createCreditsClient({ ...supabaseCredits(supabase) })`. */
export function supabaseCredits(
  supabase: SupabaseClient<any, any, any>, { schema = "creditsd", topic = (userId) => `credits:${userId}` }: SupabaseCreditsOptions = {},
): { readonly transport: Transport; readonly getToken: GetToken } {
  const at = (supabase as unknown as { readonly supabaseUrl?: URL | string }).supabaseUrl;
  const balances = { supabase, schema };
  return {
    transport: {
      name: `supabase:${at ?? ""}:${schema}`,
      // Realtime joins again by itself, is told of new tokens by supabase-js, and has heartbeats of its own.
      selfKeeping: true,
      read: (ask) => read(balances, ask),
      listen: (on) => listen(balances, topic(on.user), on),
      history: (ask) => history(balances, ask),
    },
    getToken: async ({ fresh }) => {
      const { data, error } = await (fresh ? supabase.auth.refreshSession() : supabase.auth.getSession());
      // Somebody who has no session is signed out, and that is no failure.
      if (error && error.name !== "AuthSessionMissingError") throw error;
      return data.session?.access_token ?? null;
    },
  };
}

interface Balances {
  readonly supabase: SupabaseClient<any, any, any>;
  readonly schema: string;
}

/** A row of `creditsd.balances` or `creditsd.history`. */
interface Row {
  readonly user_id: string | number;
  readonly version: number;
  readonly updated_at: string;
  readonly credits: number;
  readonly membership_status: MembershipStatus;
  readonly plan_type: PlanType;
  readonly can_buy: boolean;
  readonly has_ever_had_subscription: boolean;
  readonly subscription_id: string | null;
  readonly membership: string | null;
  readonly expires_at: string | null;
  readonly level: Level | null;
  readonly low_credits: number | null;
  readonly cause?: string;
}

const COLUMNS = "user_id,version,updated_at,credits,membership_status,plan_type,can_buy,has_ever_had_subscription,subscription_id,membership,expires_at,level,low_credits";

async function read({ supabase, schema }: Balances, { user, signal }: Reading): Promise<Total> {
  const { data, error, status } = await supabase.schema(schema).from("balances").select(COLUMNS).abortSignal(signal).maybeSingle();
  if (error) throw refused(error, status);
  return data ? totalOf(data as unknown as Row) : nothing(user);
}

async function history({ supabase, schema }: Balances, { limit, cursor, signal }: HistoryAsk): Promise<HistoryPage | null> {
  let asked = supabase.schema(schema).from("history").select(`${COLUMNS},cause`).order("version", { ascending: false }).limit(limit + 1);
  if (cursor !== undefined) asked = asked.lt("version", cursor);
  const { data, error, status } = await asked.abortSignal(signal);
  if (error) throw refused(error, status);
  const steps: Step[] = (data as unknown as Row[]).slice(0, limit).map((row) => ({ ...totalOf(row), ...(row.cause !== undefined && { cause: row.cause }) }));
  return { steps, cursor: data.length > limit ? String(steps.at(-1)!.version) : null };
}

/** Listen to the private topic. What was sent while nobody was joined is lost, so the row is read each time it is joined. */
async function listen(balances: Balances, topic: string, on: Listening): Promise<End> {
  const { supabase } = balances;
  await supabase.realtime.setAuth(on.token);
  if (on.signal.aborted) return "lost";
  let end = (_: End): void => {};
  let fail = (_: unknown): void => {};
  const ended = new Promise<End>((resolve, reject) => ([end, fail] = [resolve, reject]));
  const joined = async (): Promise<void> => {
    try {
      const total = await read(balances, on);
      on.total(total);
      on.heard();
    } catch (error) {
      fail(error);
    }
  };
  const channel = supabase.channel(topic, { config: { private: true } })
    .on("broadcast", { event: "credits.updated" }, ({ payload }) => {
      on.heard();
      if (isTotal(payload)) on.total(payload);
    })
    .subscribe((status, error) => {
      if (status === "SUBSCRIBED") void joined();
      else if (error && /unauthorized|permission/i.test(error.message)) fail(new CreditsError("forbidden", error.message, { cause: error }));
      else end("lost");
    });
  try {
    return await Promise.race([ended, aborted(on.signal).then((): End => "lost")]);
  } finally {
    void supabase.removeChannel(channel);
  }
}

const KINDS: Readonly<Record<number, CreditsErrorKind>> = { 0: "network", 401: "unauthorized", 403: "forbidden", 404: "not_configured", 406: "not_configured", 429: "busy", 503: "busy" };

function refused(error: { readonly message: string }, status: number): CreditsError {
  return new CreditsError(KINDS[status] ?? "server", error.message, { ...(status > 0 && { status }), cause: error });
}

function totalOf(row: Row): Total {
  const { membership_status: membershipStatus, plan_type: planType, expires_at, membership, subscription_id } = row;
  const total = {
    user_id: String(row.user_id), version: Number(row.version), updated_at: row.updated_at, credits: Number(row.credits), membershipStatus, planType,
    canBuy: row.can_buy, hasEverHadSubscription: row.has_ever_had_subscription, subscription_id, membership, expires_at,
    ...(row.low_credits !== null && { level: row.level, low_credits: Number(row.low_credits) }),
  };
  return { ...total, message: sentence(total) };
}

/** A user nobody has heard of has no row, and no credits. */
function nothing(user: string): Total {
  const total = {
    user_id: user, version: 0, updated_at: "1970-01-01T00:00:00Z", credits: 0, membershipStatus: "none", planType: "none", canBuy: true,
    hasEverHadSubscription: false, subscription_id: null, membership: null, expires_at: null,
  } as const;
  return { ...total, message: sentence(total) };
}

/** The sentence that creditsd sends, which is not in the row. */
function sentence({ credits, membershipStatus, planType, membership, expires_at }: Omit<Total, "message">): string {
  const amount = Math.abs(credits) === 1 ? "1 credit" : `${Math.abs(credits)} credits`;
  const have = credits === 0 ? "You have no credits" : credits < 0 ? `You are ${amount} below zero` : `You have ${amount}`;
  if (membershipStatus === "none") return `${have} and no plan.`;
  if (membershipStatus === "expired") return `${have}; your plan is no longer active.`;
  const name = membership || { subscription: "your subscription", one_time: "your one-time plan", none: "your plan" }[planType];
  if (expires_at !== null) return `${have}; ${name} runs until ${new Date(expires_at).toISOString().slice(0, 10)}.`;
  return `${have}; ${name} ${planType === "one_time" ? "does not expire" : "is active"}.`;
}
