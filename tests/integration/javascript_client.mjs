// Asks a daemon what few ask: a read that waits for a version, and history. Says on each line what came.
import { once } from "node:events";

import { readHistory } from "../../clients/js/src/history.ts";
import { createCreditsClient } from "../../clients/js/src/index.ts";

const { CREDITSD_URL: url, TOKEN: token } = process.env;
const say = (what) => console.log(JSON.stringify(what));

// So seldom does it read by itself that whatever comes came by the read that waits.
const client = createCreditsClient({ url, getToken: () => token, stream: false, pollMs: 3_600_000, shareTabs: false, storage: null });
client.subscribe(({ total, pending, error }) => say({ credits: total?.credits ?? null, pending, error: error?.message ?? null }));
const { version } = await client.refetch();
client.optimistic(-5, { until: once(process.stdin, "data").then(() => ({ version: version + 1 })) });
await once(process.stdin, "end");
const first = await readHistory(client, 1);
const second = first && await readHistory(client, 500, first.cursor);
say([first, second].map((page) => page && { credits: page.steps.map((step) => step.credits), more: page.cursor !== null }));
client.close();
// The change that was shown has a clock of its own.
process.exit();
