// Serves an edge function as Supabase's runtime does, which has Deno.serve and Deno.env.
import { serve } from "@hono/node-server"

Object.assign(globalThis, {
  Deno: {
    env: { get: (name: string) => process.env[name] },
    serve: (fetch: (request: Request) => Promise<Response>) =>
      serve({ fetch, hostname: "127.0.0.1", port: Number(process.env.PORT) }),
  },
})
await import("./index.ts")
