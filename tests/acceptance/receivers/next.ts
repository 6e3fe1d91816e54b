// Calls a route handler as Next.js does: with a web request, for a web response, or 500 where it throws.
import { createServer } from "node:http"
import { Readable } from "node:stream"
import { POST } from "./route.ts"

createServer(async (request, response) => {
  const body = Readable.toWeb(request) as ReadableStream
  const headers = new Headers(request.headers as Record<string, string>)
  const asked = new Request("http://localhost/hooks/credits", { method: "POST", headers, body, duplex: "half" } as RequestInit)
  const answer = await POST(asked).catch(() => new Response(null, { status: 500 }))
  response.writeHead(answer.status).end()
}).listen(Number(process.env.PORT), "127.0.0.1")
