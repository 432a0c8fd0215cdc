// Alerts of this browser alone: rules are kept in localStorage, and judged by the bars, gaps and states
// that the page gets anyway. `tapeline watch` tells programs, also while no page is open.

import { element, price } from "./format.js";

const $ = (id) => document.getElementById(id);
const KEPT = "alerts";
const SHOWN_MS = 15_000;
const MOST = 50;
const INTERVAL = "5m";
const FORM = /^(\S+)\s+(?:(final|gap|silent)|(open|high|low|close)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?))$/;
const HOLDS = {
  ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b,
};

function parse(text) {
  const found = FORM.exec(text.trim());
  if (!found) return null;
  const [, symbol, kind = "price", field, sign, number] = found;
  return { text: text.trim().replace(/\s+/g, " "), symbol, kind, field, sign, number: Number(number) };
}

export class Alerts {
  #rules = [];
  #told = new Set();
  #began = Date.now();

  constructor() {
    try {
      this.#rules = JSON.parse(localStorage.getItem(KEPT) ?? "[]").map(parse).filter(Boolean);
    } catch {
      // Something else was kept there.
    }
    $("alert-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add($("alert-input").value);
    });
    this.#list();
  }

  open(symbol) {
    $("alert-input").placeholder = `${symbol ?? "AAPL"} close > 280`;
    $("alerts").showModal();
    $("alert-input").focus();
  }

  // A bar as it stands, or final.
  bar(bar) {
    if (bar.interval !== INTERVAL) return;
    for (const rule of this.#rules.filter(({ symbol }) => symbol === bar.symbol)) {
      if (rule.kind === "final" && bar.is_final && Date.parse(bar.window_end) > this.#began) {
        this.#tell(`${rule.text} ${bar.window_start} ${bar.revision}`, rule,
          `${bar.symbol}: ${bar.revision > 1 ? "a revised" : "a final"} bar, close ${price(bar.close)}`);
      } else if (rule.kind === "price" && bar[rule.field] !== null) {
        this.#price(rule, bar);
      }
    }
  }

  // Bars before the newest say nothing of now.
  #price(rule, bar) {
    const start = Date.parse(bar.window_start);
    if (start < (rule.start ?? 0)) return;
    rule.start = start;
    const holds = HOLDS[rule.sign](bar[rule.field], rule.number);
    if (holds && !rule.holds) {
      this.#tell(`${rule.text} ${start}`, rule, `${rule.text}: it is ${price(bar[rule.field])}`);
    }
    rule.holds = holds;
  }

  // All gaps of the last days.
  gaps(gaps) {
    for (const rule of this.#rules.filter(({ kind }) => kind === "gap" || kind === "silent")) {
      for (const gap of gaps) {
        const isOver = gap.end !== null && Date.parse(gap.end) < this.#began;
        if (isOver || gap.marks_bars !== (rule.kind === "gap") || !gap.symbols.includes(rule.symbol)) continue;
        const what = gap.marks_bars ? `no feed (${gap.kind})` : "no trades";
        this.#tell(`${rule.text} ${gap.producer} ${gap.start} ${gap.end}`, rule,
          `${rule.symbol}: ${what}${gap.end === null ? "" : ", it is over"}`);
      }
    }
  }

  #tell(id, rule, text) {
    if (this.#told.has(id)) return;
    this.#told.add(id);
    const toast = element("div", {}, element("strong", {}, "Alert"), element("span", {}, text));
    $("toasts").append(toast);
    setTimeout(() => toast.remove(), SHOWN_MS);
    if (document.hidden && globalThis.Notification?.permission === "granted") {
      new Notification("Tapeline", { body: text, tag: id });
    }
  }

  #add(text) {
    const rule = parse(text);
    const isKnown = rule !== null && this.#rules.some((other) => other.text === rule.text);
    const trouble = rule === null ? "Write one such as AAPL close > 280, AAPL final, AAPL gap or AAPL silent."
      : isKnown ? "There is this rule already."
        : this.#rules.length >= MOST ? `${MOST} rules are the most: remove one.` : null;
    $("alert-trouble").textContent = trouble ?? "";
    $("alert-trouble").hidden = trouble === null;
    $("alert-input").setAttribute("aria-invalid", String(trouble !== null));
    if (trouble !== null) return;
    if (globalThis.Notification?.permission === "default") Notification.requestPermission();
    this.#rules.push(rule);
    $("alert-input").value = "";
    this.#keep();
  }

  #keep() {
    localStorage.setItem(KEPT, JSON.stringify(this.#rules.map(({ text }) => text)));
    this.#list();
  }

  #list() {
    $("alert-rules").replaceChildren(...this.#rules.map((rule) => {
      const button = element("button", { type: "button", "aria-label": `Remove ${rule.text}` }, "Remove");
      button.addEventListener("click", () => {
        this.#rules = this.#rules.filter((other) => other !== rule);
        this.#keep();
      });
      return element("li", {}, element("span", {}, rule.text), button);
    }));
  }
}
