/** What the daemon serves at `/creditsd.js`: the client alone. No hook looks there for the one that a page has made. */

export { unlistedClient as createCreditsClient } from "./client.ts";
export { CreditsError } from "./errors.ts";
