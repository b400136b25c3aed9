// Numbers, times and sizes in words. Pure.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const count = (n) => whole.format(n);
export const short = (n) => (n < 10_000 ? whole.format(n) : compact.format(n));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const time = (seconds) => moment.format(seconds * 1000);
export const shortTime = (seconds) => day.format(seconds * 1000);
export const isoTime = (seconds) => new Date(seconds * 1000).toISOString();

export function percent(part, all) {
  if (!all) return "0%";
  const exact = (100 * part) / all;
  const shown = exact > 0 && exact < 1 ? "<1" : exact > 99 && exact < 100 ? ">99" : String(Math.round(exact));
  return `${shown}%`;
}

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${pad(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

const pad = (n) => String(n).padStart(2, "0");

// To the fineness that a decision needs: nobody waits for the seconds of three hours.
export function about(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return duration(Math.round(seconds / 600) * 600);
}

export function ago(seconds) {
  if (seconds < 45) return "just now";
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}

// By 1,024, as the limits of the API are meant: its 100 MB are 104,857,600 bytes.
export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const step = Math.min(3, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** step;
  return `${value.toFixed(value < 10 && value % 1 ? 1 : 0)} ${["B", "KB", "MB", "GB"][step]}`;
}

// Half a cent matters in a cost by the million, and none in a bill of thousands.
export function money(amount, currency) {
  const digits = amount === 0 || amount >= 1 ? 2 : Math.min(6, 1 - Math.floor(Math.log10(amount)) + 1);
  const options = { minimumFractionDigits: Math.max(2, digits), maximumFractionDigits: Math.max(2, digits) };
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency, ...options }).format(amount);
  } catch {
    return `${amount.toFixed(Math.max(2, digits))} ${currency}`; // a currency that is no code of ISO 4217
  }
}

export function rate(perSecond) {
  if (perSecond >= 10) return `${count(Math.round(perSecond))}/s`;
  if (perSecond >= 0.1) return `${perSecond.toFixed(1)}/s`;
  return `${(perSecond * 60).toFixed(1)}/min`;
}
