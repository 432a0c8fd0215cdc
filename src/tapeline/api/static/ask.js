// Questions to the API.

import { moment } from "./format.js";
import { ask } from "./key.js";

const DAY_MS = 86_400_000;

export const daysAgo = (days) => new Date(Date.now() - days * DAY_MS).toISOString();

// Throws an error with the API's own sentence. Copies that were kept are asked about first.
export async function get(path, method = "GET") {
  const answer = await ask(path, { method, headers: { Accept: "application/json" }, cache: "no-cache" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

// Ask producers for a symbol; returns what to say of it.
export async function addSymbol(symbol) {
  try {
    const { symbol: name, source, producers } = await get(`v1/symbols/${encodeURIComponent(symbol)}`, "PUT");
    return producers
      ? `${name} is asked of ${source}. It appears here with its first trade.`
      : `No producer of ${source} runs: the next one asks for ${name}.`;
  } catch (error) {
    return error.message.replace(/^symbol: /, "");
  }
}

// Prices of the watch list: the last three hours, and what the day's change is counted from,
// which is the last day's close, else the first price of this one, else of the newest bar.
export async function quote(watch, symbols) {
  const names = encodeURIComponent(symbols.join(","));
  const some = (interval, start) =>
    get(`v1/bars?symbols=${names}&interval=${interval}&start=${start}&limit=10000`);
  const newest = await get(`v1/bars/latest?symbols=${names}&interval=5m`);
  const recent = await some("5m", daysAgo(1 / 8));
  for (const bar of [...newest.bars, ...recent.bars]) watch.update(bar);
  for (const bar of newest.bars) {
    if (bar.open !== null) watch.refer(bar.symbol, bar.open, "the first price of the newest bar");
  }
  const hours = await some("1h", new Date().toISOString().slice(0, 10));
  for (const bar of hours.bars.toReversed()) {
    if (bar.open !== null) watch.refer(bar.symbol, bar.open, "the first price of the day (UTC)");
  }
  const days = await some("1d", daysAgo(5));
  for (const bar of days.bars) {
    if (Date.parse(bar.window_end) <= Date.now() && bar.close !== null) {
      watch.refer(bar.symbol, bar.close, `the close of ${moment(Date.parse(bar.window_end))}`);
    }
  }
}
