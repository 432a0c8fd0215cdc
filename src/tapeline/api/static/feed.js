// What comes by itself: changed bars by WebSocket, and the pipeline's health. A browser keeps as many
// sockets as there are tabs, but only six event streams of one host.

import { amount, duration, element, seconds } from "./format.js";
import { ask } from "./key.js";

const $ = (id) => document.getElementById(id);
const STATUS_EVERY_MS = 3000;
const AGAIN_MS = 1000;
const TOO_MANY = 429;
const WORDS = {
  live: "live", ended: "tape has ended", stale: "no feed", down: "feed down", unknown: "feed unknown",
  store: "database down", lost: "reconnecting", wait: "connecting", behind: "catching up",
  away: "log is away", other_policy: "other rules",
};
const GOOD = new Set(["live", "ended"]);
// The live view cannot show the newest trades; bars come from the database meanwhile.
const SLOW = {
  behind: "More trades come than can be shown at once. Bars come from the database until then.",
  away: "Kafka does not answer. Bars come from the database, some seconds late.",
  other_policy: "The stored bars are made by other rules than TAPELINE_STREAM__POLICY of this API says. "
    + "Bars come from the database, some seconds late.",
};

export class Feed {
  #socket = null;
  #key = "";
  #isLost = false;
  #whyLost = "";
  #isStoreDown = false;
  #view = "starting";
  #state = "wait";
  #detail = "";
  #changedMs = 0;

  // handlers: bar(bar), reload(), trouble(text or null, whether nothing can be read)
  constructor(handlers) {
    this.handlers = handlers;
    this.#poll();
  }

  listen(symbols, intervals) {
    const key = `${intervals.join(",")}|${symbols.join(",")}`;
    if (key === this.#key && this.#socket?.readyState <= WebSocket.OPEN) return;
    this.#key = key;
    const before = this.#socket;
    const socket = new WebSocket(new URL("v1/ws", document.baseURI.replace(/^http/, "ws")));
    this.#socket = socket;
    before?.close();
    let awaited = intervals.length;
    socket.addEventListener("open", () => {
      this.#lost(false);
      for (const interval of intervals) {
        socket.send(JSON.stringify({ action: "subscribe", symbols, interval }));
      }
    });
    socket.addEventListener("message", (message) => {
      const { event, data } = JSON.parse(message.data);
      if (event === "bar") {
        this.#changedMs = Date.now();
        this.handlers.bar(data);
      } else if (event === "state") {
        this.#told(data);
      } else if (event === "reset" || (event === "followed" && --awaited === 0)) {
        this.handlers.reload();
      }
    });
    socket.addEventListener("close", ({ reason }) => {
      if (this.#socket !== socket) return;
      this.#whyLost = reason;
      this.#lost(true);
      setTimeout(() => { if (this.#socket === socket) this.listen(symbols, intervals); }, AGAIN_MS);
    });
  }

  #told({ store, live }) {
    const isDown = store === "down";
    this.#view = live;
    if (this.#isStoreDown && !isDown) this.handlers.reload();
    this.#isStoreDown = isDown;
    this.#show();
  }

  #lost(isLost) {
    this.#isLost = isLost;
    this.#show();
  }

  async #poll() {
    try {
      const answer = await ask("v1/status");
      const status = await answer.json();
      if (answer.ok) this.#health(status);
      if (answer.status !== TOO_MANY) this.#isStoreDown = !answer.ok;
      this.#state = answer.ok ? status.feed.state : this.#state;
      this.#detail = answer.ok ? status.feed.detail : this.#detail;
      this.#isLost = this.#socket !== null && this.#socket.readyState !== WebSocket.OPEN;
    } catch {
      this.#isLost = true;
      this.#whyLost = "";
    }
    this.#show();
    setTimeout(() => this.#poll(), STATUS_EVERY_MS);
  }

  #show() {
    const isSlow = this.#state === "live" && this.#view in SLOW;
    const state = this.#isLost ? "lost" : this.#isStoreDown ? "store" : isSlow ? this.#view : this.#state;
    if ($("feed").dataset.state !== state) {
      $("feed").dataset.state = state;
      $("feed").replaceChildren(element("span", {}, WORDS[state]));
    }
    const detail = this.#isLost ? this.#whyLost || "The API does not answer."
      : this.#isStoreDown ? "The database does not answer." : SLOW[state] ?? this.#detail;
    const isGood = GOOD.has(state) || state === "wait" || state === "unknown";
    const isBroken = this.#isLost || this.#isStoreDown;
    const hope = isBroken ? " The page tries again by itself." : "";
    this.handlers.trouble(isGood ? null : `${detail}${hope}`, isBroken);
  }

  #health(status) {
    const { counts } = status;
    if (status.keyspace !== "market_data") {
      $("keyspace").textContent = status.keyspace;
      $("keyspace").hidden = false;
    }
    const time = (text) => (text === null ? "–" : seconds(Date.parse(text)));
    const fresh = status.freshness_s;
    const values = [
      ["freshness", fresh === null ? "–" : duration(fresh), "Since Kafka received the newest trade that is stored"],
      ["lag", status.lag_messages === null ? "–" : `${amount(status.lag_messages)} msgs`, "Messages in Kafka that are not stored yet"],
      ["frontier", time(status.frontier), "Event time up to which everything is stored"],
      ["last change", this.#changedMs ? seconds(this.#changedMs) : "–", "When a bar last changed here"],
      ["messages", amount(counts.messages), "Messages of the topic that are stored"],
      ["bars today", amount(counts.bars_5m_last_day), `${amount(counts.final_bars_5m_last_day)} of them final`],
    ];
    $("health").replaceChildren(...values.map(([name, text, title]) =>
      element("div", { title }, element("dt", {}, name), element("dd", {}, text))));
  }
}
