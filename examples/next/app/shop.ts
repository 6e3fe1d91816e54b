/** What an application does itself: sign people in, and write rows. Here `creditsd demo` plays that part, and a cookie says who is signed in. */

import { cookies } from "next/headers";

export interface Customer {
  readonly user_id: string;
  readonly name: string;
}

/** Where the server finds the daemon, and the demo's shop. */
export const CREDITSD_URL = process.env.CREDITSD_URL ?? "http://127.0.0.1:8321";
const SHOP_URL = process.env.SHOP_URL ?? CREDITSD_URL;

export async function customers(): Promise<readonly Customer[]> {
  return answer(await fetch(`${SHOP_URL}/demo/customers`, { cache: "no-store" }));
}

/** Find out who is signed in. */
export async function customer(): Promise<Customer | null> {
  const id = (await cookies()).get("customer")?.value;
  return (await customers()).find(({ user_id }) => user_id === id) ?? null;
}

export async function post<T>(act: string, user_id: string): Promise<T> {
  const body = JSON.stringify({ user_id });
  return answer(await fetch(`${SHOP_URL}/demo/${act}`, { method: "POST", headers: { "Content-Type": "application/json" }, body }));
}

async function answer<T>(response: Response): Promise<T> {
  const body = await response.json();
  if (!response.ok || !body.success) throw new Error(body.error ?? "The shop does not answer.");
  return body.data;
}
