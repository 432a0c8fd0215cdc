// The page: symbol, interval and range live in the URL; bars come from the API, and changes
// by server-sent events. Nothing is computed here that the API has not said.

const INTERVALS = ["5m", "15m", "1h", "1d"];
const LIVE = new Set(["5m", "1h"]);
const DAYS = { "5m": 1, "15m": 3, "1h": 14, "1d": 365 };
const QUOTES_EVERY_MS = 5000;

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const state = { symbols: [], symbol: null, interval: "5m", bars: new Map(), source: null };

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const chart = LightweightCharts.createChart($("chart"), {
  autoSize: true,
  layout: { attributionLogo: true, fontFamily: "system-ui, sans-serif" },
  timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 4 },
  rightPriceScale: { scaleMargins: { top: 0.08, bottom: 0.24 } },
  crosshair: { mode: LightweightCharts.CrosshairMode.Normal },
});
const candles = chart.addSeries(LightweightCharts.CandlestickSeries);
const volume = chart.addSeries(LightweightCharts.HistogramSeries, {
  priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false,
  priceLineVisible: false,
});
chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
const marks = LightweightCharts.createSeriesMarkers(candles, []);

function paint() {
  const line = color("line");
  chart.applyOptions({
    layout: { background: { color: color("ground") }, textColor: color("quiet") },
    grid: { vertLines: { color: line }, horzLines: { color: line } },
  });
  candles.applyOptions({ upColor: color("up"), downColor: color("down"), borderVisible: true });
  draw();
}

// A provisional candle is hollow, an incomplete one has the colour of a warning.
function candle(bar) {
  const time = Date.parse(bar.window_start) / 1000;
  if (bar.open === null || bar.close === null) return { time };
  const tone = bar.is_complete === false ? color("warn")
    : color(bar.close >= bar.open ? "up" : "down");
  return {
    time, open: bar.open, high: bar.high, low: bar.low, close: bar.close,
    color: bar.is_final ? tone : "transparent", borderColor: tone, wickColor: tone,
  };
}

function column(bar) {
  const up = bar.open === null || bar.close >= bar.open;
  return {
    time: Date.parse(bar.window_start) / 1000, value: bar.volume,
    color: `${color(up ? "up" : "down")}66`,
  };
}

function mark(bar) {
  return {
    time: Date.parse(bar.window_start) / 1000, position: "aboveBar", shape: "circle",
    color: color("accent"), text: `revision ${bar.revision}`,
  };
}

function draw() {
  const bars = [...state.bars.values()].sort((a, b) => (a.window_start < b.window_start ? -1 : 1));
  candles.setData(bars.map(candle));
  volume.setData(bars.map(column));
  marks.setMarkers(bars.filter((bar) => bar.revision > 1).map(mark));
  const last = bars.filter((bar) => bar.close !== null).at(-1);
  if (last) {
    const digits = decimals(last.close);
    candles.applyOptions({
      priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits },
    });
  }
  showTitle(last);
}

function decimals(price) {
  return price >= 1000 ? 2 : price >= 10 ? 2 : 5;
}

function showTitle(last) {
  const title = $("title");
  title.replaceChildren(Object.assign(document.createElement("strong"), {
    textContent: state.symbol ?? "",
  }));
  if (!last) return;
  const kind = last.is_final ? (last.revision > 1 ? `revision ${last.revision}` : "final")
    : "provisional";
  const text = ` ${last.close.toFixed(decimals(last.close))} · ${last.window_start.slice(11, 16)} ` +
    `${kind} · ${last.trade_count.toLocaleString("en")} trades` +
    (last.session ? ` · ${last.session}` : "");
  title.append(text);
  document.title = `${last.close} ${state.symbol} – Tapeline`;
}

function say(text) {
  $("message").hidden = !text;
  $("message").textContent = text ?? "";
}

function showFeed(name, text) {
  $("feed").dataset.state = name;
  $("feed").textContent = text;
}

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

async function load() {
  const { symbol, interval } = state;
  const start = new Date(Date.now() - DAYS[interval] * 86_400_000).toISOString();
  const path = `/v1/bars/${encodeURIComponent(symbol)}?interval=${interval}&start=${start}&limit=10000`;
  const page = await get(path);
  if (symbol !== state.symbol || interval !== state.interval) return;
  state.bars = new Map(page.bars.map((bar) => [bar.window_start, bar]));
  draw();
  say(page.bars.length ? null : `${symbol} has no bars in this time. They appear as trades come.`);
}

function listen() {
  state.source?.close();
  state.source = null;
  if (!LIVE.has(state.interval)) {
    showFeed("", `${state.interval} bars are drawn anew every few seconds`);
    return;
  }
  const symbols = state.symbols.map(encodeURIComponent).join(",");
  const source = new EventSource(`/v1/stream?symbols=${symbols}&interval=${state.interval}`);
  source.addEventListener("open", () => {
    showFeed("live", "live");
    load().catch(fail);
  });
  source.addEventListener("bar", (event) => {
    const bar = JSON.parse(event.data);
    showQuote(bar);
    showFeed("live", `live · ${new Date().toISOString().slice(11, 19)}`);
    if (bar.symbol !== state.symbol) return;
    state.bars.set(bar.window_start, bar);
    say(null);
    draw();
  });
  source.addEventListener("state", (event) => {
    const isDown = JSON.parse(event.data).store === "down";
    showFeed(isDown ? "down" : "live", isDown ? "the database does not answer" : "no change now");
  });
  source.addEventListener("error", () => showFeed("down", "connection lost, trying again"));
  state.source = source;
}

function fail(error) {
  showFeed("down", "no answer");
  say(`${error.message} The page tries again by itself.`);
}

function showQuote(bar) {
  const button = document.querySelector(`#watch button[data-symbol="${CSS.escape(bar.symbol)}"]`);
  if (!button || bar.close === null) return;
  const change = (bar.close / bar.open - 1) * 100;
  const way = change > 0 ? "up" : change < 0 ? "down" : "";
  button.querySelector(".price").textContent = bar.close.toFixed(decimals(bar.close));
  const cell = button.querySelector(".change");
  cell.textContent = `${change > 0 ? "+" : ""}${change.toFixed(3)} %`;
  cell.className = `change ${way}`;
}

function select(symbol, interval) {
  state.symbol = symbol;
  const isOther = interval !== state.interval;
  state.interval = interval;
  state.bars = new Map();
  const url = new URL(location.href);
  url.searchParams.set("symbol", symbol);
  url.searchParams.set("interval", interval);
  history.replaceState(null, "", url);
  for (const button of document.querySelectorAll("#watch button")) {
    button.setAttribute("aria-pressed", String(button.dataset.symbol === symbol));
  }
  for (const button of document.querySelectorAll("#intervals button")) {
    button.setAttribute("aria-pressed", String(button.textContent === interval));
  }
  load().then(() => chart.timeScale().scrollToRealTime()).catch(fail);
  if (isOther || !state.source) listen();
}

function buildIntervals() {
  for (const name of INTERVALS) {
    const button = Object.assign(document.createElement("button"), { textContent: name });
    button.addEventListener("click", () => select(state.symbol, name));
    $("intervals").append(button);
  }
}

function buildWatch() {
  $("watch").replaceChildren(...state.symbols.map((symbol) => {
    const button = document.createElement("button");
    button.dataset.symbol = symbol;
    for (const [name, text] of [["name", symbol], ["price", ""], ["change", ""]]) {
      button.append(Object.assign(document.createElement("span"), {
        className: name, textContent: text,
      }));
    }
    button.addEventListener("click", () => select(symbol, state.interval));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

// Up and down walk through the watch list, left and right through the intervals.
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !state.symbols.length) return;
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const of = (list, now, by) => list[(list.indexOf(now) + by + list.length) % list.length];
  if (step) select(of(state.symbols, state.symbol, step), state.interval);
  else if (turn) select(state.symbol, of(INTERVALS, state.interval, turn));
  else return;
  event.preventDefault();
}

async function refresh() {
  if (!state.symbols.length) {
    const { symbols } = await get("/v1/symbols");
    state.symbols = symbols;
    if (!symbols.length) {
      say("There are no bars yet. Start `tapeline demo`, or `tapeline produce` and `tapeline stream`.");
      return;
    }
    buildWatch();
    const wanted = new URL(location.href).searchParams;
    const symbol = wanted.get("symbol");
    const interval = wanted.get("interval");
    select(symbols.includes(symbol) ? symbol : symbols[0],
      INTERVALS.includes(interval) ? interval : "5m");
  }
  const names = encodeURIComponent(state.symbols.slice(0, 100).join(","));
  const { bars } = await get(`/v1/bars/latest?symbols=${names}&interval=5m`);
  bars.forEach(showQuote);
  if (!LIVE.has(state.interval)) await load();
}

buildIntervals();
paint();
dark.addEventListener("change", paint);
document.addEventListener("keydown", onKey);
const again = () => refresh().catch(fail).finally(() => setTimeout(again, QUOTES_EVERY_MS));
again();
