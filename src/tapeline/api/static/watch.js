// The watch list: last price, change of the day, and the last three hours as a line.

import { element, percent, shortPrice } from "./format.js";

const HOURS_MS = 3 * 3_600_000;
const WIDTH = 46;
const HEIGHT = 20;

export class Watch {
  #rows = new Map();
  #selected = null;

  // The offer is a button to add what is searched for and not there.
  constructor(list, search, offer, choose, add) {
    this.list = list;
    this.search = search;
    this.offer = offer;
    this.choose = choose;
    this.mayAdd = false;
    offer.addEventListener("click", () => {
      add(offer.value);
      search.value = "";
      this.#filter();
    });
    search.addEventListener("input", () => this.#filter());
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && this.shown[0]) this.choose(this.shown[0]);
      else if (event.key === "Enter" && !offer.hidden) add(offer.value);
      if (event.key === "Enter" || event.key === "Escape") {
        search.value = "";
        this.#filter();
        search.blur();
      }
    });
  }

  // Symbols that the search leaves, in order.
  get shown() {
    return [...this.#rows].filter(([, row]) => !row.item.hidden).map(([symbol]) => symbol);
  }

  fill(symbols) {
    this.#rows = new Map(symbols.map((symbol) => [symbol, this.#row(symbol)]));
    this.list.replaceChildren(...[...this.#rows.values()].map((row) => row.item));
    this.#filter();
    this.select(this.#selected);
  }

  select(symbol) {
    this.#selected = symbol;
    for (const [name, row] of this.#rows) {
      row.button.setAttribute("aria-pressed", String(name === symbol));
    }
    this.#rows.get(symbol)?.item.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // The price that a day's change is counted from, and which one it is.
  refer(symbol, close, meaning) {
    const row = this.#rows.get(symbol);
    if (!row) return;
    row.reference = close;
    row.button.title = `Change since ${meaning}`;
    this.#draw(row);
  }

  update(bar) {
    const row = this.#rows.get(bar.symbol);
    if (!row || bar.close === null) return;
    const time = Date.parse(bar.window_start);
    if (time >= row.time) {
      row.flash = row.last !== null && bar.close !== row.last ? (bar.close > row.last ? "up" : "down") : "";
      row.last = bar.close;
      row.time = time;
    }
    row.points.set(time, bar.close);
    this.#draw(row);
  }

  #filter() {
    const wanted = this.search.value.trim().toLowerCase();
    for (const [symbol, row] of this.#rows) {
      row.item.hidden = !symbol.toLowerCase().includes(wanted);
    }
    // Feeds write their symbols in capitals.
    this.offer.value = wanted.toUpperCase();
    this.offer.textContent = `Add ${this.offer.value}`;
    this.offer.hidden = !this.mayAdd || !wanted || this.#rows.has(this.offer.value);
  }

  #row(symbol) {
    const [venue, name] = symbol.includes(":") ? symbol.split(":") : ["", symbol];
    const cells = {
      last: element("span", { className: "last" }, "–"),
      change: element("span", { className: "change" }),
    };
    const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    line.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    line.setAttribute("aria-hidden", "true");
    const path = line.appendChild(document.createElementNS(line.namespaceURI, "polyline"));
    const label = element("span", { className: "name" }, name,
      ...(venue ? [element("small", {}, venue)] : []));
    const button = element("button", { type: "button", "aria-pressed": "false" },
      label, line, cells.last, cells.change);
    button.dataset.symbol = symbol;
    button.addEventListener("click", () => this.choose(symbol));
    return {
      item: element("li", {}, button), button, cells, path,
      points: new Map(), last: null, time: 0, reference: null, flash: "",
    };
  }

  #draw(row) {
    if (row.last === null) return;
    row.cells.last.textContent = shortPrice(row.last);
    if (row.reference) {
      const { way, text } = percent(row.last, row.reference);
      row.cells.change.textContent = text;
      row.cells.change.className = `change ${way}`;
      row.path.setAttribute("class", way);
    }
    if (row.flash) {
      row.cells.last.classList.remove("up", "down");
      void row.cells.last.offsetWidth; // so that the same flash starts over
      row.cells.last.classList.add(row.flash);
      row.flash = "";
    }
    const newest = Math.max(...row.points.keys());
    for (const time of row.points.keys()) if (time < newest - HOURS_MS) row.points.delete(time);
    const points = [...row.points].sort(([a], [b]) => a - b);
    const closes = points.map(([, close]) => close);
    const low = Math.min(...closes);
    const height = Math.max(...closes) - low || 1;
    row.path.setAttribute("points", points.map(([time, close]) => {
      const x = WIDTH - 1 - ((newest - time) / HOURS_MS) * (WIDTH - 2);
      return `${x.toFixed(1)},${(HEIGHT - 2 - ((close - low) / height) * (HEIGHT - 4)).toFixed(1)}`;
    }).join(" "));
  }
}
