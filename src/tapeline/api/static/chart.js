// The chart: candles, volume, marks of revisions, shaded gaps of the feed, and the legend.

import { FeedGaps } from "./gaps.js";
import { amount, clock, day, digitsOf, element, moment, month, percent, price } from "./format.js";

const $ = (id) => document.getElementById(id);
const at = (bar) => Date.parse(bar.window_start) / 1000;

export const color = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// A fifth of a colour on a ground, both #rrggbb.
function mixed(tone, ground) {
  const parts = [1, 3, 5].map((i) => [tone, ground].map((hex) => parseInt(hex.slice(i, i + 2), 16)));
  return `#${parts.map(([a, b]) => Math.round(b + (a - b) / 5).toString(16).padStart(2, "0")).join("")}`;
}

const TICKS = [month, month, day, clock, clock];

export class Chart {
  #bars = new Map();
  #title = { symbol: "", interval: "" };
  #digits = 2;
  #colors = {};
  #under = null;

  constructor() {
    this.chart = LightweightCharts.createChart($("chart"), {
      autoSize: true,
      layout: { attributionLogo: true, fontFamily: "system-ui, sans-serif", fontSize: 12 },
      timeScale: {
        timeVisible: true, secondsVisible: false, rightOffset: 6, borderVisible: false,
        barSpacing: 9, minBarSpacing: 0.4,
        tickMarkFormatter: (time, type) => TICKS[type](time * 1000),
      },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.16, bottom: 0.22 } },
      crosshair: { mode: LightweightCharts.CrosshairMode.Normal },
      localization: { timeFormatter: (time) => moment(time * 1000) },
    });
    this.candles = this.chart.addSeries(LightweightCharts.CandlestickSeries, {
      borderVisible: true, priceLineStyle: LightweightCharts.LineStyle.Dotted,
    });
    this.volume = this.chart.addSeries(LightweightCharts.HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" },
      lastValueVisible: false, priceLineVisible: false,
    });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
    this.marks = LightweightCharts.createSeriesMarkers(this.candles, []);
    this.gaps = new FeedGaps(this.chart, color);
    this.candles.attachPrimitive(this.gaps);
    this.chart.subscribeCrosshairMove((move) => {
      this.#under = move.time === undefined ? null : this.#bars.get(move.time) ?? null;
      this.#tell();
    });
    this.paint();
  }

  // Take the colours of the theme.
  paint() {
    for (const name of ["ground", "up", "down", "warn", "accent", "grid", "quiet", "line"]) {
      this.#colors[name] = color(name);
    }
    const { ground, grid, quiet, line, up, down } = this.#colors;
    this.chart.applyOptions({
      layout: { background: { color: ground }, textColor: quiet },
      grid: { vertLines: { color: grid }, horzLines: { color: grid } },
      crosshair: {
        vertLine: { color: quiet, labelBackgroundColor: line },
        horzLine: { color: quiet, labelBackgroundColor: line },
      },
    });
    this.candles.applyOptions({ upColor: up, downColor: down });
    this.show([...this.#bars.values()], this.#title);
  }

  // Show the newest bars at a good width, or all of them.
  fit(isNewest) {
    const axis = this.chart.timeScale();
    if (isNewest || this.#bars.size < 40) {
      axis.applyOptions({ barSpacing: this.#bars.size < 40 ? 16 : 9 });
      axis.scrollToPosition(6, false);
    } else {
      axis.fitContent();
    }
  }

  show(bars, title) {
    this.#title = title;
    this.#bars = new Map(bars.map((bar) => [at(bar), bar]));
    this.#digits = digitsOf(bars.flatMap((bar) => [bar.open, bar.high, bar.low, bar.close]));
    this.candles.applyOptions({
      priceFormat: {
        type: "custom",
        minMove: 10 ** -this.#digits,
        formatter: (value) => price(value, this.#digits),
      },
    });
    this.candles.setData(bars.map((bar) => this.#candle(bar)));
    this.volume.setData(bars.map((bar) => this.#column(bar)));
    this.gaps.bars = bars;
    this.#mark();
    this.#tell();
  }

  // One bar has changed, most often the newest.
  update(bar) {
    const last = this.candles.data().at(-1)?.time ?? 0;
    this.#bars.set(at(bar), bar);
    if (at(bar) < last && !this.candles.data().some((candle) => candle.time === at(bar))) {
      this.show([...this.#bars.values()].sort((a, b) => at(a) - at(b)), this.#title);
      return;
    }
    this.candles.update(this.#candle(bar), at(bar) < last);
    this.volume.update(this.#column(bar), at(bar) < last);
    if (at(bar) > last) this.gaps.bars.push(bar);
    this.#mark();
    this.#tell();
  }

  // A provisional candle is all but hollow; an incomplete one has the colour of a warning.
  #candle(bar) {
    if ([bar.open, bar.high, bar.low, bar.close].includes(null)) return { time: at(bar) };
    const { up, down, warn } = this.#colors;
    const tone = bar.is_complete === false ? warn : bar.close >= bar.open ? up : down;
    return {
      time: at(bar), open: bar.open, high: bar.high, low: bar.low, close: bar.close,
      color: bar.is_final ? tone : mixed(tone, this.#colors.ground), borderColor: tone, wickColor: tone,
    };
  }

  #column(bar) {
    const { up, down } = this.#colors;
    const tone = bar.open === null || bar.close >= bar.open ? up : down;
    return { time: at(bar), value: bar.volume, color: `${tone}${bar.is_final ? "70" : "38"}` };
  }

  #mark() {
    const marks = [];
    for (const [time, bar] of this.#bars) {
      if (bar.revision > 1) {
        marks.push({
          time, position: "aboveBar", shape: "circle", size: 0.6,
          color: this.#colors.accent, text: `r${bar.revision}`,
        });
      }
      if (bar.is_complete === false) {
        marks.push({
          time, position: "belowBar", shape: "square", size: 0.3, color: this.#colors.warn,
        });
      }
    }
    this.marks.setMarkers(marks.sort((a, b) => a.time - b.time));
  }

  // The legend: the bar under the crosshair, else the newest.
  #tell() {
    const newest = [...this.#bars.values()].filter((bar) => bar.close !== null).at(-1);
    const bar = this.#under ?? newest;
    const { symbol, interval } = this.#title;
    const head = element("p", { className: "head" },
      element("strong", {}, symbol ?? ""), element("span", {}, interval ?? ""));
    if (!bar) {
      $("legend").replaceChildren(head);
      return;
    }
    const change = percent(bar.close, bar.open);
    head.append(element("b", { className: change.way }, price(bar.close, this.#digits)),
      element("span", { className: change.way }, change.text));
    const values = element("p", { className: "values" });
    for (const [name, text] of [
      ["O", price(bar.open, this.#digits)], ["H", price(bar.high, this.#digits)],
      ["L", price(bar.low, this.#digits)], ["C", price(bar.close, this.#digits)],
      ["V", amount(bar.volume)], ["trades", bar.trade_count.toLocaleString("en")],
    ]) {
      values.append(element("span", {}, element("i", {}, name), text));
    }
    $("legend").replaceChildren(head, values, this.#badges(bar));
  }

  #badges(bar) {
    const state = !bar.is_final ? "provisional" : bar.revision > 1 ? `revision ${bar.revision}` : "final";
    const badges = element("p", { className: "badges" },
      element("span", {}, moment(Date.parse(bar.window_start))),
      element("span", { className: bar.is_final ? "is-final" : "is-provisional" }, state));
    if (bar.is_complete === false) badges.append(element("span", { className: "is-incomplete" }, "incomplete"));
    if (bar.is_complete === true) badges.append(element("span", {}, "complete"));
    if (bar.session) badges.append(element("span", {}, bar.session));
    return badges;
  }
}
