import type { NextConfig } from "next";

const config: NextConfig = {
  reactStrictMode: true,
  // Alone, also where other lock files lie above.
  turbopack: { root: import.meta.dirname },
};

export default config;
