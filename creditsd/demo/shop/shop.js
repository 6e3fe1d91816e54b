// A shop of the demo: what an application's own page would do, with the client that the daemon serves.

import { createCreditsClient } from "/creditsd.js";

const ALLOWANCE = 500; // what a full bar stands for
const STEPS = 3;

const NUMBERS = new Intl.NumberFormat("en");

const at = (id) => document.getElementById(id);

class Visit {
  #before = null;
  #pressed = null;
  #ends = null;

  constructor(customer) {
    this.customer = customer;
    const getToken = async () => (await post("token", { user_id: customer })).token;
    this.client = createCreditsClient({ url: "", getToken });
    this.leave = this.client.subscribe((snapshot) => this.show(snapshot));
  }

  end() {
    this.leave();
    this.client.close();
  }

  async press(act) {
    this.#pressed = performance.now();
    try {
      const { done, seconds } = await post(act, { user_id: this.customer });
      if (!done) say("Nothing here can do that: buy something first.");
      else if (seconds) {
        this.#ends = performance.now() + seconds * 1000;
        say(`In ${seconds} seconds what was bought runs out, and nobody writes a row then.`);
      }
    } catch {
      say("The shop does not answer.");
    }
  }

  show({ total, status }) {
    const light = at("light");
    light.dataset.status = status;
    light.textContent = status;
    if (total) this.#tell(total);
  }

  #tell(total) {
    const before = this.#before;
    if (before && before.version >= total.version) return;
    this.#before = total;
    at("credits").textContent = NUMBERS.format(total.credits);
    at("message").textContent = total.message;
    at("left").setAttribute("aria-valuenow", Math.max(0, Math.min(ALLOWANCE, total.credits)));
    at("left").firstElementChild.style.width = `${Math.max(0, Math.min(1, total.credits / ALLOWANCE)) * 100}%`;
    if (before) this.#step(total.credits - before.credits, total);
  }

  #step(by, total) {
    const text = by > 0 ? `+${NUMBERS.format(by)}` : by < 0 ? `−${NUMBERS.format(-by)}` : "±0";
    const direction = by > 0 ? "up" : by < 0 ? "down" : "same";
    const balance = at("balance");
    at("step").textContent = text;
    balance.dataset.step = direction;
    balance.classList.remove("fresh");
    void balance.offsetWidth; // the animation begins anew only after a layout without it
    balance.classList.add("fresh");
    note(direction, text, this.#why(performance.now()), total);
  }

  #why(now) {
    const after = this.#pressed === null ? Infinity : Math.round(now - this.#pressed);
    this.#pressed = null;
    if (after < 1000) return `${after} ms after you pressed`;
    if (this.#ends === null || Math.abs(now - this.#ends) > 1000) return "from elsewhere";
    this.#ends = null;
    return "time ran out";
  }
}

function note(direction, text, why, total) {
  const item = document.createElement("li");
  item.dataset.step = direction;
  for (const [name, words] of [["b", text], ["span", why], ["span", new Date(total.updated_at).toLocaleTimeString("en-GB")]]) {
    const part = document.createElement(name);
    part.textContent = words;
    item.append(part);
  }
  at("steps").prepend(item);
  while (at("steps").children.length > STEPS) at("steps").lastElementChild.remove();
}

function say(text) {
  at("said").textContent = text;
}

async function post(what, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`/demo/${what}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).data;
}

async function open() {
  const { data: customers } = await (await fetch("/demo/customers")).json();
  const select = at("customer");
  for (const { user_id, name } of customers) select.add(new Option(name, user_id));
  let visit = new Visit(select.value);
  select.addEventListener("change", () => {
    visit.end();
    at("steps").replaceChildren();
    visit = new Visit(select.value);
  });
  for (const button of document.querySelectorAll("[data-act]")) {
    button.addEventListener("click", () => void visit.press(button.dataset.act));
  }
}

void open();
