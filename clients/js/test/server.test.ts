import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { readCredits } from "../src/server.ts";
import { total } from "./counterpart.ts";

test("a server reads anybody's total by its key", async (t) => {
  const asked: unknown[] = [];
  const server = createServer(({ url, headers }, response) => {
    asked.push(`${url} ${headers["x-api-key"]}`);
    if (url!.includes("nobody")) response.writeHead(403).end('{"success":false,"error":"not with this key"}');
    else if (url!.includes("silent")) return;
    else response.end(JSON.stringify({ success: true, data: total("a b", 5, 100) }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  assert.equal((await readCredits({ url, apiKey: "k", userId: "a b", minVersion: 5 })).credits, 100);
  assert.deepEqual(asked, ["/v1/users/a%20b/credits?min_version=5 k"]);
  await assert.rejects(readCredits({ url, apiKey: "k", userId: "nobody" }), { kind: "forbidden", message: "not with this key" });
  await assert.rejects(readCredits({ url, apiKey: "k", userId: "silent", timeoutMs: 30 }), { kind: "network" });
  await assert.rejects(readCredits({ url: "http://127.0.0.1:1", apiKey: "k", userId: "x" }), { kind: "network" });
  for (const missing of ["url", "apiKey", "userId"]) {
    await assert.rejects(readCredits({ url, apiKey: "k", userId: "x", [missing]: undefined } as never), new RegExp(`\`${missing}\` is missing`));
  }
});
