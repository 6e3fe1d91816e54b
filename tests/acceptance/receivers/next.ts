// Calls a route handler as Next.js does: with a web request, for a web response.
import { createServer } from "node:http"
import { Readable } from "node:stream"
import { POST } from "./route.ts"

createServer(async (request, response) => {
  const body = Readable.toWeb(request) as ReadableStream
  const headers = new Headers(request.headers as Record<string, string>)
  const answer = await POST(new Request("http://localhost/hooks/credits", { method: "POST", headers, body, duplex: "half" } as RequestInit))
  response.writeHead(answer.status).end()
}).listen(Number(process.env.PORT), "127.0.0.1")
