/** An application of the day before: React 18, Zustand 4. Says what it rendered and what came to its store. */
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { createCreditsClient, CreditsError } from "creditsd";
import { RealtimeCreditsProvider, useCredits, useCreditsSuspense, useRealtimeCredits } from "creditsd/react";
import { createCreditsStore } from "creditsd/zustand";

const client = createCreditsClient({ url: process.env.CREDITSD_URL, getToken: () => process.env.TOKEN, storage: null });
const Amount = () => `${useRealtimeCredits().credits.credits} ${useCredits((now) => now.membership)} ${useCreditsSuspense((now) => now.version)}`;
const total = { user_id: "ann", version: 4, credits: 5, membership: "Pro" };
const html = renderToString(createElement(RealtimeCreditsProvider, { client, initialTotal: total }, createElement(Amount)));

const useStore = createCreditsStore(client);
const came = await new Promise((resolve) => {
  const leave = useStore.subscribe(({ getCreatorCredits: now }) => {
    if (!now) return;
    queueMicrotask(() => leave());
    resolve(now.credits);
  });
});
client.close();
console.log(JSON.stringify({ html, came, error: new CreditsError("busy", "x") instanceof Error }));
