/** Server-sent events out of text that arrives in pieces. */

import { malformed } from "./errors.ts";

const LONGEST_LINE = 65_536;

export interface EventHandlers {
  event(name: string, data: string): void;
  /** The server's wish for the first wait before a reconnect. */
  retry(ms: number): void;
}

/** Make a function that takes the next piece. Lines end in LF, CRLF or CR, wherever the pieces are cut. */
export function eventReader(on: EventHandlers): (piece: string) => void {
  let rest = "";
  let name = "";
  let data: string[] = [];

  const take = (line: string): void => {
    const [field, value = ""] = line.split(/: ?(.*)/s);
    if (field === "data") data.push(value);
    else if (field === "event") name = value;
    else if (field === "retry" && /^\d+$/.test(value)) on.retry(Number(value));
    if (line) return;
    if (data.length) on.event(name || "message", data.join("\n"));
    name = "";
    data = [];
  };

  return (piece) => {
    // A CR at the very end may be the first half of CRLF: it waits for what follows.
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop()!;
    if (rest.length > LONGEST_LINE) throw malformed("stream");
    lines.forEach(take);
  };
}
