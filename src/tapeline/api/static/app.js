// The page: symbol, interval and range live in the URL; bars come from the API, and changes
// by server-sent events. Nothing is computed here that the API has not said.

import { Alerts } from "./alerts.js";
import { addSymbol, daysAgo, get, quote } from "./ask.js";
import { Chart } from "./chart.js";
import { Feed } from "./feed.js";
import { element, nextZone, price, zoneName } from "./format.js";
import { tableOf } from "./table.js";
import { Watch } from "./watch.js";

const INTERVALS = ["5m", "15m", "1h", "4h", "1d"];
const RANGES = { "1d": 1, "5d": 5, "1m": 30, all: null };
const SHORT = new Set(["5m", "1h"]);
const WATCHED = 60;
const WATCHED_INTERVAL = "5m";
const PAGES = 6;
const AGAIN_MS = 3000;
const TABLE_MS = 500;

const $ = (id) => document.getElementById(id);
const state = { symbols: [], symbol: null, interval: "5m", range: "1d", bars: new Map() };
const chart = new Chart();
const alerts = new Alerts();
const watch = new Watch($("watch"), $("search"), $("offer"), (symbol) => choose({ symbol }), async (symbol) => {
  $("added").hidden = false;
  $("added").textContent = `${symbol} …`;
  $("added").textContent = await addSymbol(symbol);
});
const feed = new Feed({ bar: onBar, reload: () => load().catch(fail), trouble });
let refill = null;

// For tests and the curious: what the chart holds.
window.tapeline = {
  candles: () => chart.candles.data(),
  bars: () => [...state.bars.values()],
  state,
};

const watched = () => state.symbols.slice(0, WATCHED);
// All of what the pages of one read can hold: a page of days is made of 20,000 shorter bars.
const MOST_DAYS = { "5m": 200, "15m": 200, "1h": 2400, "4h": 2400, "1d": 400 };
const FIRST_DAY = "2000-01-01";
const ago = (days) => daysAgo(days ?? MOST_DAYS[state.interval]);

async function read(symbol, interval, start) {
  const found = [];
  let cursor = "";
  for (let page = 0; page < PAGES && cursor !== null; page += 1) {
    const query = new URLSearchParams({ interval, start, limit: 10_000, ...(cursor && { cursor }) });
    const part = await get(`v1/bars/${encodeURIComponent(symbol)}?${query}`);
    found.push(...part.bars);
    cursor = part.next_cursor;
  }
  return found;
}

async function load() {
  const { symbol, interval, range } = state;
  if (!symbol) return;
  let found = await read(symbol, interval, ago(RANGES[range]));
  // The bars of a tape of long ago lie before that.
  if (!found.length && range === "all") found = await read(symbol, interval, FIRST_DAY);
  if (symbol !== state.symbol || interval !== state.interval || range !== state.range) return;
  // A live bar may have come while we asked; it is the newer one.
  const later = [...state.bars.values()].filter((bar) => bar.isLive);
  state.bars = new Map(found.map((bar) => [bar.window_start, bar]));
  for (const bar of later) {
    const read = state.bars.get(bar.window_start);
    if (!read || bar.revision > read.revision
      || (bar.revision === read.revision && bar.trade_count > read.trade_count)) {
      state.bars.set(bar.window_start, bar);
    }
  }
  draw();
}

const sorted = () =>
  [...state.bars.values()].sort((a, b) => (a.window_start < b.window_start ? -1 : 1));

function draw() {
  const bars = sorted();
  chart.show(bars, { symbol: state.symbol, interval: state.interval });
  fillTable();
  if (bars.length) {
    say(null);
  } else {
    say(`No bars of ${state.symbol} in this range`, "They appear as trades come. A longer range may have some.");
  }
}

function put(bar) {
  state.bars.set(bar.window_start, bar);
  chart.update(bar);
  // A table that changed ten times a second could not be read.
  refill ??= setTimeout(() => {
    refill = null;
    fillTable();
  }, TABLE_MS);
  say(null);
}

function onBar(bar) {
  const isChosen = bar.symbol === state.symbol;
  alerts.bar(bar);
  if (bar.interval === WATCHED_INTERVAL) {
    watch.update(bar);
    if (isChosen) document.title = `${price(bar.close)} ${bar.symbol} – Tapeline`;
  }
  if (isChosen && bar.interval === state.interval) put({ ...bar, isLive: true });
}

// The watch list follows short bars, whatever the chart shows.
function listen() {
  feed.listen(watched(), [...new Set([WATCHED_INTERVAL, state.interval])]);
}

// Change what is shown; the URL follows, and the back button leads back.
function choose(wanted, { isNew = true } = {}) {
  const before = { ...state };
  Object.assign(state, wanted);
  if (isNew) {
    const { symbol, interval, range } = state;
    const query = new URLSearchParams({ symbol, interval, range });
    const method = before.symbol === null ? "replaceState" : "pushState";
    history[method](null, "", `?${query}`);
  }
  state.bars = new Map();
  watch.select(state.symbol);
  press($("intervals"), state.interval);
  press($("ranges"), state.range);
  const done = load().then(() => {
    chart.fit(state.range === "1d" && SHORT.has(state.interval));
  });
  listen();
  showGaps().catch(fail);
  done.catch(fail);
}

async function showGaps() {
  const { symbol, range } = state;
  const { gaps } = await get(`v1/gaps?start=${ago(RANGES[range] ?? 30)}`);
  alerts.gaps(gaps);
  if (symbol !== state.symbol) return;
  chart.gaps.gaps = gaps.filter((gap) => gap.marks_bars && gap.symbols.includes(symbol));
}

function press(group, name) {
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(button.dataset.name === name));
  }
}

function build(group, names, pick) {
  group.replaceChildren(...names.map((name) => {
    const button = element("button", { type: "button" }, name === "all" ? "All" : name);
    button.dataset.name = name;
    button.addEventListener("click", () => pick(name));
    return button;
  }));
}

function fillTable() {
  if (!$("table").hidden) $("table").replaceChildren(tableOf(sorted(), `${state.symbol}, ${state.interval}`));
}

// A message stands where bars should be; a banner above bars that are there.
function say(title, ...lines) {
  $("message").hidden = !title;
  $("message").replaceChildren(element("strong", {}, title ?? ""),
    ...lines.map((line) => (line instanceof Node ? line : element("p", {}, line))));
}

function trouble(text, isBroken) {
  const isEmpty = !state.bars.size;
  $("banner").hidden = !text || isEmpty;
  $("banner").textContent = text ?? "";
  if (isBroken && isEmpty) say("Nothing to show yet", text);
}

function fail(error) {
  if (state.bars.size) return; // the feed says what is wrong
  say("Nothing to show yet", `${error.message} The page tries again by itself.`);
}

const tools = {
  t: () => {
    const isTable = $("table").hidden;
    $("table").hidden = !isTable;
    $("view").setAttribute("aria-pressed", String(isTable));
    fillTable();
  },
  z: () => {
    nextZone();
    $("zone").textContent = zoneName();
    draw();
  },
  d: () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    paint();
  },
  a: () => alerts.open(state.symbol),
  "?": () => $("keys").showModal(),
  "/": () => $("search").focus(),
};
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function paint() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  chart.paint();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !state.symbols.length) return;
  if (event.target instanceof HTMLInputElement || $("keys").open || $("key").open || $("alerts").open) return;
  const next = (list, now, by) => list[(list.indexOf(now) + by + list.length) % list.length];
  const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const range = Object.keys(RANGES)[Number(event.key) - 1];
  const isScrolling = document.activeElement === $("table");
  if (move && !isScrolling && watch.shown.length) choose({ symbol: next(watch.shown, state.symbol, move) });
  else if (turn) choose({ interval: next(INTERVALS, state.interval, turn) });
  else if (range) choose({ range });
  else if (tools[event.key]) tools[event.key]();
  else return;
  event.preventDefault();
}

function wanted() {
  const query = new URL(location.href).searchParams;
  const one = (name, known, otherwise) => (known.includes(query.get(name)) ? query.get(name) : otherwise);
  return {
    symbol: one("symbol", state.symbols, state.symbols[0]),
    interval: one("interval", INTERVALS, "5m"),
    range: one("range", Object.keys(RANGES), "1d"),
  };
}

async function begin() {
  const { symbols, may_change: mayChange } = await get("v1/symbols");
  watch.mayAdd = mayChange;
  if (!symbols.length) {
    say("There are no bars yet", element("p", {}, "Start a market with ", element("code", {}, "tapeline demo"),
      ", or your own feed with ", element("code", {}, "tapeline produce"), " and ",
      element("code", {}, "tapeline stream"), ". Bars appear here by themselves."));
    throw new Error("no bars");
  }
  state.symbols = symbols;
  if (state.symbol === null) {
    watch.fill(symbols);
    choose(wanted());
  }
  await quote(watch, watched());
}

build($("intervals"), INTERVALS, (interval) => choose({ interval }));
build($("ranges"), Object.keys(RANGES), (range) => choose({ range }));
for (const [id, key] of [["view", "t"], ["zone", "z"], ["theme", "d"], ["alert", "a"], ["help", "?"]]) {
  $(id).addEventListener("click", tools[key]);
}
$("zone").textContent = zoneName();
paint();
dark.addEventListener("change", paint);
document.addEventListener("keydown", onKey);
addEventListener("popstate", () => choose(wanted(), { isNew: false }));
const again = () => begin().catch((error) => {
  if (error.message !== "no bars") fail(error);
  setTimeout(again, AGAIN_MS);
});
again();
setInterval(() => {
  if (!state.symbol) return;
  showGaps().catch(fail);
  quote(watch, watched()).catch(fail);
}, 60_000);
setInterval(async () => {
  // New symbols join the list as they come.
  const { symbols } = await get("v1/symbols").catch(() => state);
  if (symbols.length > state.symbols.length && state.symbol) {
    state.symbols = symbols;
    watch.fill(symbols);
    listen();
    await quote(watch, watched()).catch(fail);
  }
}, 10_000);
