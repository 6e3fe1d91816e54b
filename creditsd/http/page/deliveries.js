// Refused deliveries: those that wait for their next try, and the dead, which wait for a person.

import { element, say } from "./draw.js";
import { plural, short, span } from "./words.js";

const STALE = 15_000; // how old the list may get while nothing is known to have changed

export class Deliveries {
  #known = "";
  #asked = 0;
  #asking = false;
  #again = false;

  constructor(section, list, said, api, explain) {
    Object.assign(this, { section, list, said, api, explain });
  }

  // The state says how many there are: only where that differs, or now and then, are they asked for.
  show({ sinks }) {
    if (!sinks) return;
    const known = sinks.map((each) => `${each.name} ${each.refused} ${each.dead}`).join("\n");
    const any = sinks.some((each) => each.refused + each.dead > 0);
    const stale = any && performance.now() - this.#asked > STALE;
    if (known === this.#known && !stale) return;
    this.#known = known;
    void this.#load();
  }

  async #load() {
    this.#again = this.#asking; // what changed while an answer is under way may not be in it
    if (this.#asking) return;
    this.#asking = true;
    this.#asked = performance.now();
    try {
      const { deliveries, limit } = await this.api.get("deliveries");
      this.#draw(deliveries, limit);
    } catch (error) {
      say(this.said, `The list cannot be read now: ${error.message}`);
    } finally {
      this.#asking = false;
    }
    if (this.#again) await this.#load();
  }

  #draw(deliveries, limit) {
    const focused = document.activeElement?.dataset?.delivery;
    const dead = deliveries.filter((each) => each.next_at === null);
    const sinks = [...new Set(dead.map((each) => each.sink))];
    const all = sinks.map((sink) =>
      element("button", { type: "button", "data-delivery": `all ${sink}`, onclick: () => this.#decide("retry", sink, null) }, `Retry everything of ${sink}`),
    );
    this.list.replaceChildren(
      ...deliveries.map((each) => this.#delivery(each)),
      element("p", { class: "actions" }, ...all),
      deliveries.length === limit ? element("p", { class: "quiet-note" }, `The first ${limit} are shown.`) : "",
    );
    this.section.hidden = deliveries.length === 0 && this.said.textContent === "";
    if (focused) this.list.querySelector(`[data-delivery="${CSS.escape(focused)}"]`)?.focus();
  }

  #delivery(each) {
    const name = `${each.sink} ${each.user_id}`;
    const user = element("button", { type: "button", class: "user", title: each.user_id, onclick: () => this.explain(each.user_id) }, short(each.user_id));
    const retry = element("button", { type: "button", "data-delivery": `retry ${name}`, onclick: () => this.#decide("retry", each.sink, each.user_id) }, "Retry");
    const drop = element("button", { type: "button", class: "quiet", "data-delivery": `drop ${name}`, onclick: () => this.#confirm(drop, each) }, "Drop");
    const status = each.last_status === null ? "" : `${each.last_status} `;
    return element(
      "article",
      { class: "delivery", "data-status": each.next_at === null ? "dead" : "waiting" },
      element("p", { class: "whose" }, element("strong", {}, each.sink), " refused ", user),
      element("p", { class: "tries" }, `${plural(each.attempt, "try", "tries")}, ${next(each.next_at)}`),
      element("p", { class: "because" }, `${status}${each.last_error}`),
      element("p", { class: "actions" }, retry, drop),
    );
  }

  #confirm(button, each) {
    if (button.dataset.sure) return void this.#decide("drop", each.sink, each.user_id);
    button.dataset.sure = "yes";
    say(button, "Really drop it?");
    button.addEventListener("blur", () => (delete button.dataset.sure, say(button, "Drop")), { once: true });
  }

  async #decide(what, sink, user_id) {
    try {
      const { deliveries } = await this.api.post(`deliveries/${what}`, { sink, user_id });
      const counted = plural(deliveries, "delivery", "deliveries");
      say(this.said, what === "retry" ? `${counted} to ${sink} will be tried now.` : `Dropped ${counted} to ${sink}.`);
    } catch (error) {
      say(this.said, error.message);
    }
    await this.#load();
  }
}

function next(moment) {
  if (moment === null) return "dead";
  const seconds = (Date.parse(moment) - Date.now()) / 1000;
  return seconds <= 0 ? "next one now" : `next one in ${span(seconds)}`;
}
