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

// As many digits as the prices themselves have, 2 to 6.
export function digitsOf(prices) {
  const digits = prices.filter((p) => p !== null).slice(-60)
    .map((p) => (String(p).split(".")[1] ?? "").length);
  return Math.min(6, Math.max(2, ...digits));
}

export function price(value, digits = digitsOf([value])) {
  return value === null || value === undefined ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const amount = (value) =>
  value >= 1e5
    ? value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 })
    : value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 4 : 0 });

export function percent(now, before) {
  const change = (now / before - 1) * 100;
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
