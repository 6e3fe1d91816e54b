import { fileURLToPath } from "node:url";

import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const source = (file: string): string => fileURLToPath(new URL(`../../clients/js/src/${file}`, import.meta.url));
const creditsd = process.env.CREDITSD_URL ?? "http://127.0.0.1:8321";

export default defineConfig({
  base: "./",
  plugins: [react()],
  build: { rolldownOptions: { input: ["index.html", "cookbook.html"] } },
  resolve: {
    // The client beside this example, as it is. An application installs the package and needs none of this.
    alias: [
      { find: /^creditsd$/, replacement: source("index.ts") },
      { find: /^creditsd\/react$/, replacement: source("react.ts") },
    ],
    dedupe: ["react", "react-dom"],
  },
  server: {
    port: 5173,
    // One origin for the page and the daemon, so that nothing has to be allowed to ask across.
    proxy: { "/v1": creditsd, "/demo": creditsd },
    fs: { allow: ["../.."] },
  },
});
