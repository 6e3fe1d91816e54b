"use server";

import { cookies } from "next/headers";

import { customer, post } from "./shop";

export async function signIn(form: FormData): Promise<void> {
  (await cookies()).set("customer", String(form.get("customer")), { httpOnly: true, sameSite: "lax" });
}

export async function signOut(): Promise<void> {
  (await cookies()).delete("customer");
}

/** The JWT of whoever is signed in: what `getToken` of the provider calls. */
export async function token(): Promise<string | null> {
  const user = await customer();
  return user && (await post<{ token: string }>("token", user.user_id)).token;
}

/** Do something that changes rows. False where there is nothing to do it with. */
export async function act(what: "spend" | "buy"): Promise<boolean> {
  const user = await customer();
  if (!user) throw new Error("Nobody is signed in.");
  return (await post<{ done: boolean }>(what, user.user_id)).done;
}
