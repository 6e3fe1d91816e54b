// Every sink: how it is, how far it is, what it last complained of; and what a person may do about it.

import { element, mark, say } from "./draw.js";
import { ago, clock, counted, duration, number } from "./words.js";

const COLUMNS = ["Sink", "State", "Waiting", "Delivered", "Refused", "Dead", "Told up to"];
const REFUSED = 3; // from here on a number leads to the deliveries
const DEAD = 4;

const SAID = {
  pause: (sink) => `${sink} is paused: what changes meanwhile waits, the newest total of each user.`,
  resume: (sink) => `${sink} is delivered to again.`,
  replay: (sink) => `${sink} is told everything again.`,
  test: (sink, { seconds, left }) => `${sink} took the test message in ${duration(seconds * 1000)}; ${left}.`,
};

export class Sinks {
  #rows = new Map();

  constructor(place, said, api) {
    Object.assign(this, { said, api });
    const heads = COLUMNS.map((name, index) => element("th", { scope: "col", class: index > 1 && index < 6 ? "count" : null }, name));
    this.body = element("tbody");
    this.none = element("p", { class: "quiet-note", hidden: true }, "No sink is configured: set CREDITSD_SINKS to tell one.");
    const turns = element("th", { scope: "col" }, element("span", { class: "unseen" }, "What to do"));
    this.table = element("table", { class: "sinks" }, element("thead", {}, element("tr", {}, ...heads, turns)), this.body);
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
      for (const index of [REFUSED, DEAD]) cells[index].append(element("a", { href: "#deliveries" }));
      const [stop, test, replay] = ["Pause", "Test", "Replay"].map((text) => element("button", { type: "button", class: "quiet" }, text));
      stop.onclick = () => this.#turn(name, stop.dataset.turn);
      test.onclick = () => this.#turn(name, "test");
      replay.onclick = () => this.#confirm(name, replay);
      const node = element("tr", {}, element("th", { scope: "row" }, name), ...cells, element("td", { class: "turns" }, stop, test, replay));
      const said = element("td", { colspan: COLUMNS.length + 1 });
      const why = element("tr", { class: "why", hidden: true }, said);
      this.body.append(node, why);
      this.#rows.set(name, { node, cells, stop, why, said });
    }
    return this.#rows.get(name);
  }

  #tell({ node, cells, stop, why, said }, sink, limit) {
    const texts = [
      sink.state,
      counted(sink.queue, limit),
      number(sink.delivered),
      number(sink.refused),
      number(sink.dead),
      sink.cursor ? clock(sink.cursor / 1000) : "nothing",
    ];
    texts.forEach((text, index) => say(cells[index].querySelector("a") ?? cells[index], text));
    mark(node, "data-status", sink.state);
    mark(cells[REFUSED], "data-any", sink.refused > 0);
    mark(cells[DEAD], "data-any", sink.dead > 0);
    const stands = { paused: "Resume", disabled: "Enable" }[sink.state];
    mark(stop, "data-turn", stands ? "resume" : "pause");
    say(stop, stands ?? "Pause");
    mark(cells[4], "data-some", sink.dead > 0);
    mark(cells[5], "title", `version ${sink.cursor}`);
    const reason = because(sink);
    why.hidden = !reason;
    say(said, reason);
  }

  #confirm(name, button) {
    if (button.dataset.sure) return void this.#turn(name, "replay");
    button.dataset.sure = "yes";
    say(button, "Really?");
    button.addEventListener("blur", () => (delete button.dataset.sure, say(button, "Replay")), { once: true });
  }

  async #turn(sink, how) {
    say(this.said, how === "test" ? `A test message is on its way to ${sink}.` : "");
    try {
      say(this.said, SAID[how](sink, await this.api.post(`sinks/${how}`, { sink })));
    } catch (error) {
      say(this.said, error.message);
    }
  }
}

function because({ state, said, hint, paused_at, last_error_at }) {
  const when = { paused: `; since ${ago(paused_at)}`, failing: `; said ${ago(last_error_at)}` }[state] ?? "";
  return `${said}${when}${hint ? `: ${hint}` : ""}`;
}
