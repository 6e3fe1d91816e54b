/** The one client of an application, for hooks that are given none. */

import type { CreditsClient } from "./options.ts";

let only: CreditsClient | "several" | undefined;

/** Take note of a client. One to the same server takes the place of the last: hot reloading makes it anew. */
export function made(client: CreditsClient): void {
  only = !only || (only !== "several" && (only.transport.name === client.transport.name || only.status === "closed")) ? client : "several";
}

/** Return the client that the application made. Raises Error where it made none, or several. */
export function onlyClient(): CreditsClient {
  if (only === "several") throw new Error("creditsd: several clients were made; give one to <RealtimeCreditsProvider client={…}> or to the hook");
  if (!only) throw new Error("creditsd: there is no <RealtimeCreditsProvider> above this component, and no client was made by createCreditsClient");
  return only;
}
