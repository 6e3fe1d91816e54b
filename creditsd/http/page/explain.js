// What a user has, row by row, and why.

import { element } from "./draw.js";
import { day, number } from "./words.js";

const SETTLED = 400; // until sinks have been told, too
const REST = 2000; // between two looks at the same user, however much changes

export class Explain {
  #asked = 0;
  #shown = null; // the user, as the table writes the id
  #at = 0;
  #timer = null;

  constructor(form, place, api) {
    Object.assign(this, { form, place, api });
    this.input = form.querySelector("input");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#load(this.input.value.trim());
    });
  }

  ask(user_id, { quietly = false } = {}) {
    if (quietly && this.input.value) return;
    this.input.value = user_id;
    void this.#load(user_id);
    if (!quietly) this.form.scrollIntoView({ block: "nearest" });
  }

  // Somebody's total has changed: what is shown of them is not true any more.
  changed(totals) {
    if (!totals.some((each) => each.user_id === this.#shown)) return;
    const wait = Math.max(SETTLED, REST - (performance.now() - this.#at));
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (this.#shown !== null) void this.#load(this.#shown, { again: true });
    }, wait);
  }

  async #load(user_id, { again = false } = {}) {
    const asked = ++this.#asked;
    this.#at = performance.now();
    let shown;
    let whose = null;
    try {
      const found = await this.api.get(`explain/${encodeURIComponent(user_id)}`);
      whose = found.total?.user_id ?? user_id;
      shown = answer(found);
    } catch (error) {
      if (again) return;
      shown = [element("p", { class: "wrong" }, error.message)];
    }
    if (asked !== this.#asked) return;
    this.#shown = whose;
    this.place.setAttribute("aria-live", again ? "off" : "polite");
    this.place.replaceChildren(...shown);
  }
}

function answer({ total, stored, problems, rows, hints, sinks }) {
  return [
    ...problems.map((each) => element("p", { class: "wrong" }, `${each.problem}: ${each.reason}`)),
    total === null ? "" : element("div", { class: "verdict" },
      element("p", { class: "amount" }, number(total.credits), element("span", {}, Math.abs(total.credits) === 1 ? "credit" : "credits")),
      element("div", {},
        element("p", { class: "message" }, total.message),
        element("p", { class: "id" }, total.user_id),
        element("p", { class: "quiet-note" }, told(total, stored)),
      ),
    ),
    rows.length ? element("ul", { class: "rows" }, ...rows.map(row)) : element("p", { class: "quiet-note" }, total === null ? "The rows cannot be shown." : "There are no rows of this user."),
    ...hints.map((each) => element("p", { class: "quiet-note" }, each)),
    element("dl", { class: "held" }, ...Object.entries(sinks).flatMap(([name, holds]) => [element("dt", {}, name), element("dd", {}, holds)])),
  ];
}

function told(total, stored) {
  const buy = total.canBuy ? "May buy." : "May not buy.";
  if (stored === null) return `${buy} Nothing is stored yet.`;
  const same = String(stored.credits) === String(total.credits);
  return `${buy} Stored: ${same ? "the same" : `${number(stored.credits)}, news is on its way`}, version ${stored.version}.`;
}

function row(each) {
  const plan = [each.membership, each.plan_type && each.plan_type.replace("_", " "), each.status].filter(Boolean).join(", ");
  return element("li", { "data-counts": each.counts },
    element("span", { class: "mark", "aria-hidden": "true" }, each.counts ? "✓" : "–"),
    element("span", { class: "credits" }, each.credits === null ? "null" : number(each.credits)),
    element("span", { class: "plan" }, plan || "no plan"),
    element("span", { class: "until" }, each.created_at ? `made ${day(each.created_at)}` : ""),
    element("span", { class: "because" }, `${each.counts ? "Counts" : "Does not count"}: ${each.why}.`),
  );
}
