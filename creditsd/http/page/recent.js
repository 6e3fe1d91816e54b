// Totals as they change. Each user keeps a place for as long as it keeps changing, so that the list can be read.

import { element, mark, say } from "./draw.js";
import { clock, number, plural, short, step } from "./words.js";

const PLACES = 14;
const FRAME = 250; // what comes sooner is shown together

export class Recent {
  #places = new Map(); // by user: { node, at }
  #waiting = new Map();
  #missed = 0;
  #held = false;
  #timer = null;

  constructor(list, note, hold, explain) {
    Object.assign(this, { list, note, hold, explain });
    hold.addEventListener("click", () => this.#turn());
  }

  lead(leads) {
    if (this.#places.size || this.#held) return;
    say(this.note, leads ? "Nothing has changed since this daemon began to lead." : "The daemon that leads tells of changes; this one does not.");
  }

  show({ totals, missed }) {
    for (const total of totals) this.#waiting.set(total.user_id, total);
    this.#missed = missed;
    if (this.#held) return this.#tell();
    this.#timer ??= setTimeout(() => this.#draw(), this.#places.size ? FRAME : 0);
  }

  #turn() {
    this.#held = !this.#held;
    mark(this.hold, "aria-pressed", this.#held);
    say(this.hold, this.#held ? "Go on" : "Hold still");
    if (!this.#held) this.#draw();
    this.#tell();
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#held) return;
    const news = [...this.#waiting.values()].slice(-PLACES);
    this.#waiting.clear();
    for (const total of news) this.#place(total);
    this.#tell();
  }

  #tell() {
    const waits = this.#waiting.size;
    const text = this.#held
      ? `Held. ${plural(waits, "user has", "users have")} changed meanwhile.`
      : this.#missed > 0 ? `${plural(this.#missed, "more", "more")} in the last moment.` : "";
    say(this.note, text);
    this.note.hidden = text === "";
  }

  #place(total) {
    let place = this.#places.get(total.user_id);
    if (!place) {
      place = { node: this.#row(total) };
      if (this.#places.size < PLACES) this.list.append(place.node);
      else this.#longestStill().replaceWith(place.node);
      this.#places.set(total.user_id, place);
    }
    place.at = performance.now();
    const { by, text } = step(total);
    const [, credits, change, cause, at] = place.node.children;
    say(credits, number(total.credits));
    say(change, text);
    say(cause, total.cause);
    say(at, clock(total.updated_at));
    mark(place.node, "title", `version ${total.version}`);
    mark(place.node, "data-step", by > 0 ? "up" : by < 0 ? "down" : "same");
    place.node.classList.remove("fresh");
    void place.node.offsetWidth;
    place.node.classList.add("fresh");
  }

  #longestStill() {
    const [user, { node }] = [...this.#places].reduce((one, other) => (other[1].at < one[1].at ? other : one));
    this.#places.delete(user);
    return node;
  }

  #row({ user_id }) {
    const user = element("button", { type: "button", class: "user", title: `Explain ${user_id}`, onclick: () => this.explain(user_id) }, short(user_id));
    const cells = ["credits", "step", "cause", "at"].map((name) => element("span", { class: name }));
    return element("li", {}, user, ...cells);
  }
}
