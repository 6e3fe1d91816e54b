/** The same for those who `require`, as Jest does; another copy of a module would know nothing of the client that was made. */
const { createElement } = require("react");
const { renderToString } = require("react-dom/server");
const { createCreditsClient } = require("creditsd");
const { RealtimeCreditsProvider, useRealtimeCredits } = require("creditsd/react");
const { createCreditsStore } = require("creditsd/zustand");
const { readCredits } = require("creditsd/server");

const client = createCreditsClient({ url: process.env.CREDITSD_URL, getToken: () => process.env.TOKEN, storage: null });
const Amount = () => String(useRealtimeCredits().isLoading);
const html = renderToString(createElement(RealtimeCreditsProvider, null, createElement(Amount)));
const store = createCreditsStore();
store.getState().refreshCreatorCredits().then(() => {
  console.log(JSON.stringify({ html, came: store.getState().getCreatorCredits.credits, server: typeof readCredits }));
  client.close();
});
