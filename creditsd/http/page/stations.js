// The line as it is now: each station with what is there, and a branch to every sink.

import { drawing, element, mark, say } from "./draw.js";
import { counted, DOORBELL, number, plural } from "./words.js";

const PASS = 1200; // one movement along the line at a time
const MANY = 2000; // unread since the cursor was saved, which is once a second

const STATIONS = [
  ["source", "your table"],
  ["changes", "changes"],
  ["doorbell", "doorbell"],
  ["recompute", "recompute"],
  ["balances", "balances"],
];

export class Stations {
  #facts = new Map();
  #sinks = new Map();
  #passed = 0;

  constructor(list) {
    this.list = list;
    for (const [id, name] of STATIONS) {
      const fact = element("span", { class: "fact" });
      const stop = element("span", { class: "stop", "aria-hidden": "true" }, id === "doorbell" ? bell() : null);
      const node = element("li", { class: "station", "data-station": id }, stop, element("span", { class: "name" }, name), fact);
      this.#facts.set(id, { node, fact });
      list.append(node);
    }
    this.branches = element("ul", { class: "branches" });
    const stop = element("li", { class: "station ends", "data-station": "sinks" }, this.branches);
    this.train = element("span", { class: "train", "aria-hidden": "true" });
    list.append(stop, this.train);
  }

  show(state) {
    const { line, rates, counted: limit } = state;
    const waits = line?.unread ?? 0;
    const hindered = state.hindrance && state.state !== "disconnected";
    this.#tell("source", hindered ? "needs mending" : "a trigger notes each write", hindered ? "failing" : "well");
    this.#tell("changes", waits > MANY ? `${counted(waits, limit)} unread` : `${number(rates.changes.at(-1))} a second`, waits > MANY ? "behind" : "well");
    this.#tell("doorbell", DOORBELL[state.doorbell] ?? "nobody listens here", state.doorbell ?? "nobody");
    this.#tell("recompute", recompute(state), state.state);
    this.#tell("balances", line ? plural(Math.max(0, line.users), "user", "users") : "not known", "well");
    this.#branch(state.sinks ?? [], limit);
  }

  // Something has gone along the line.
  pass() {
    const now = performance.now();
    if (now - this.#passed < PASS) return;
    this.#passed = now;
    this.train.classList.remove("runs");
    void this.train.offsetWidth; // the animation begins anew only after a layout without it
    this.train.classList.add("runs");
  }

  #tell(id, text, status) {
    const { node, fact } = this.#facts.get(id);
    say(fact, text);
    mark(node, "data-status", status);
  }

  #branch(sinks, limit) {
    const names = new Set(sinks.map((each) => each.name));
    for (const [name, node] of this.#sinks) if (!names.has(name)) (node.remove(), this.#sinks.delete(name));
    for (const each of sinks) {
      let node = this.#sinks.get(each.name);
      if (!node) {
        node = element("li", { class: "branch" }, element("span", { class: "name" }, each.name), element("span", { class: "fact" }));
        this.#sinks.set(each.name, node);
        this.branches.append(node);
      }
      mark(node, "data-status", each.state);
      say(node.lastChild, each.queue > 0 ? `${each.state}, ${counted(each.queue, limit)} wait` : each.state);
    }
    mark(this.branches, "data-count", sinks.length);
  }
}

function recompute({ state, line, rates }) {
  if (state === "backfilling") return line?.resynced_users ? `everyone: ${number(line.resynced_users)} done` : "everyone";
  return state === "leading" ? `${number(rates.totals.at(-1))} a second` : state;
}

function bell() {
  const outline = "M8 2.2c2.4 0 3.9 1.8 3.9 4.1 0 2.9.9 3.7 1.5 4.4H2.6c.6-.7 1.5-1.5 1.5-4.4C4.1 4 5.6 2.2 8 2.2Z";
  return drawing("svg", { viewBox: "0 0 16 16", class: "bell" }, drawing("path", { d: outline }), drawing("path", { d: "M6.6 12.6a1.5 1.5 0 0 0 2.8 0" }));
}
