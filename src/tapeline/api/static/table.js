// Bars as a table, the newest first: for reading values, and for readers that see no chart.

import { amount, element, moment, price, zoneName } from "./format.js";

const ROWS = 300;
const HEADS = [
  "start", "open", "high", "low", "close", "volume", "trades", "state", "complete", "session",
];

export function tableOf(bars, title) {
  const rows = bars.slice(-ROWS).reverse().map((bar) => [
    moment(Date.parse(bar.window_start)),
    ...["open", "high", "low", "close"].map((name) => price(bar[name])),
    amount(bar.volume), bar.trade_count.toLocaleString("en"),
    !bar.is_final ? "provisional" : bar.revision > 1 ? `revision ${bar.revision}` : "final",
    bar.is_complete === null ? "" : bar.is_complete ? "yes" : "no", bar.session ?? "",
  ]);
  return element("table", {},
    element("caption", {}, `${title}, times ${zoneName()}`),
    element("thead", {}, element("tr", {}, ...HEADS.map((h) => element("th", { scope: "col" }, h)))),
    element("tbody", {}, ...rows.map((row) =>
      element("tr", {}, ...row.map((text) => element("td", {}, text))))));
}
