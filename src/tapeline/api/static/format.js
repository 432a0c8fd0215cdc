// How numbers and times are written.

const ZONES = [
  { name: "UTC", id: "UTC" },
  { name: "New York", id: "America/New_York" },
  { name: "Local", id: Intl.DateTimeFormat().resolvedOptions().timeZone },
];
let zone = ZONES.find((z) => z.name === localStorage.getItem("zone")) ?? ZONES[0];

export const zoneName = () => zone.name;

export function nextZone() {
  zone = ZONES[(ZONES.indexOf(zone) + 1) % ZONES.length];
  localStorage.setItem("zone", zone.name);
}

const part = (options) => (ms) =>
  new Intl.DateTimeFormat("en-GB", { timeZone: zone.id, hourCycle: "h23", ...options }).format(ms);

export const clock = part({ hour: "2-digit", minute: "2-digit" });
export const seconds = part({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const day = part({ day: "numeric", month: "short" });
export const month = part({ month: "short", year: "numeric" });
export const moment = (ms) => `${day(ms)} ${clock(ms)}`;

// Decimals of a number as it is written: 1.6743e-9 has thirteen.
function decimals(number) {
  const [digits, exponent = "0"] = String(number).split("e");
  return Math.max(0, (digits.split(".")[1] ?? "").length - Number(exponent));
}

// As many decimals as the prices themselves have: two at least, and at most what six digits of
// the largest of them need.
export function digitsOf(prices) {
  const known = prices.filter((p) => p !== null && p !== undefined).slice(-240);
  const largest = Math.max(0, ...known.map(Math.abs));
  const most = largest > 0 ? 5 - Math.floor(Math.log10(largest)) : 6;
  return Math.min(Math.max(6, most), Math.max(2, ...known.map(decimals)), 20);
}

export function price(value, digits = digitsOf([value])) {
  return value === null || value === undefined ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// A price for a narrow column: 1.675e-9 rather than fourteen characters.
export function shortPrice(value) {
  const text = price(value);
  return text.length > 12 ? String(value) : text;
}

export const amount = (value) =>
  value >= 1e5
    ? value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 })
    : value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 4 : 0 });

export function percent(now, before) {
  // Below zero too, "up" is towards the larger price.
  const change = before === 0 ? 0 : ((now - before) / Math.abs(before)) * 100;
  const way = change > 0.0005 ? "up" : change < -0.0005 ? "down" : "";
  const sign = change >= 0 ? "+" : "−";
  return { way, text: `${sign}${Math.abs(change).toFixed(2)} %` };
}

export function duration(s) {
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} days`;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
