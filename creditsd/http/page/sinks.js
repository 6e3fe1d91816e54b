// Every sink: how it is, how far it is, and what it last complained of.

import { element, mark, say } from "./draw.js";
import { ago, clock, counted, number } from "./words.js";

const COLUMNS = ["Sink", "State", "Waiting", "Delivered", "Refused", "Dead", "Told up to"];

export class Sinks {
  #rows = new Map();

  constructor(place) {
    const heads = COLUMNS.map((name, index) => element("th", { scope: "col", class: index > 1 && index < 6 ? "count" : null }, name));
    this.body = element("tbody");
    this.none = element("p", { class: "quiet-note", hidden: true }, "No sink is configured: set CREDITSD_SINKS to tell one.");
    this.table = element("table", { class: "sinks" }, element("thead", {}, element("tr", {}, ...heads)), this.body);
    place.append(this.table, this.none);
  }

  show({ sinks, counted: limit }) {
    if (!sinks) return;
    this.none.hidden = sinks.length > 0;
    this.table.hidden = sinks.length === 0;
    const names = new Set(sinks.map((each) => each.name));
    for (const [name, row] of this.#rows) if (!names.has(name)) (row.node.remove(), row.why.remove(), this.#rows.delete(name));
    for (const each of sinks) this.#tell(this.#row(each.name), each, limit);
  }

  #row(name) {
    if (!this.#rows.has(name)) {
      const cells = COLUMNS.slice(1).map((label, index) => element("td", { "data-label": label, class: index > 0 && index < 5 ? "count" : null }));
      const node = element("tr", {}, element("th", { scope: "row" }, name), ...cells);
      const said = element("td", { colspan: COLUMNS.length });
      const why = element("tr", { class: "why", hidden: true }, said);
      this.body.append(node, why);
      this.#rows.set(name, { node, cells, why, said });
    }
    return this.#rows.get(name);
  }

  #tell({ node, cells, why, said }, sink, limit) {
    const texts = [
      sink.state,
      counted(sink.queue, limit),
      number(sink.delivered),
      number(sink.refused),
      number(sink.dead),
      sink.cursor ? clock(sink.cursor / 1000) : "nothing",
    ];
    texts.forEach((text, index) => say(cells[index], text));
    mark(node, "data-status", sink.state);
    mark(cells[4], "data-some", sink.dead > 0);
    mark(cells[5], "title", `version ${sink.cursor}`);
    const reason = because(sink);
    why.hidden = !reason;
    say(said, reason);
  }
}

function because({ state, said, hint, paused_at, last_error_at }) {
  const when = { paused: `; since ${ago(paused_at)}`, failing: `; said ${ago(last_error_at)}` }[state] ?? "";
  return `${said}${when}${hint ? `: ${hint}` : ""}`;
}
