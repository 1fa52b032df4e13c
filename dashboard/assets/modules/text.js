// Texts by key, numbers and dates by locale: the catalogue is data in the page, this module holds no text itself.

const TABLES = JSON.parse(document.getElementById("texts").textContent);
const LOCALES = { en: "en-GB", zh: "zh-CN" };

let language = document.documentElement.lang in TABLES ? document.documentElement.lang : "en";
let zone = "UTC";
let cache = new Map();

export const languages = Object.keys(TABLES);
export const currentLanguage = () => language;

/** Change the language of everything that is drawn from now on. */
export function setLanguage(next) {
  language = next;
  cache = new Map();
  document.documentElement.lang = next;
}

/** Set the city's time zone (IANA), which every time on the screen follows. */
export function setTimeZone(name) {
  zone = name;
  cache = new Map();
}

function format(kind, name, make) {
  const key = `${kind}:${name}`;
  if (!cache.has(key)) cache.set(key, make(LOCALES[language]));
  return cache.get(key);
}

export const has = (key) => key in TABLES[language];

/** The text of a key with its places filled; with `n`, the singular where the language has one. */
export function t(key, places = {}) {
  const table = TABLES[language];
  let text = table[key] ?? key;
  if (typeof places.n === "number" && table[`${key}.one`]) {
    const rules = format("plural", "", (locale) => new Intl.PluralRules(locale));
    if (rules.select(places.n) === "one") text = table[`${key}.one`];
  }
  return text.replace(/\{(\w+)\}/g, (all, name) => (name in places ? String(places[name]) : all));
}

/** A number with so many decimals, grouped as the language does. */
export function number(value, decimals = 0) {
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return format("number", decimals, (locale) => new Intl.NumberFormat(locale, options)).format(value);
}

function date(name, options, ms) {
  return format("date", name, (l) => new Intl.DateTimeFormat(l, { timeZone: zone, ...options })).format(ms);
}

export const clockTime = (ms) =>
  date("seconds", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }, ms);
export const minuteTime = (ms) => date("minutes", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }, ms);
export const dayName = (ms) => date("day", { weekday: "short", day: "numeric", month: "short" }, ms);
export const dayAndTime = (ms) =>
  date("both", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }, ms);

/** Day of the week in the city, 0 is Sunday. */
export function weekday(ms) {
  const name = new Intl.DateTimeFormat("en-US", { timeZone: zone, weekday: "short" }).format(ms);
  return ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"].indexOf(name);
}

export const zoneName = (ms) =>
  format("date", "zone", (l) => new Intl.DateTimeFormat(l, { timeZone: zone, timeZoneName: "short" }))
    .formatToParts(ms)
    .find((part) => part.type === "timeZoneName").value;

/** The day and minute that a run begins with, where its name says so (`citybrain replay` names it so), else its name. */
export const runName = (run) => run.replace(/^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)-\d{6}$/, "$1-$2-$3 $4:$5");

/** A duration in the largest unit that says enough. */
export function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return t("age.s", { n: number(s) });
  const min = Math.floor(s / 60);
  if (min < 100) return t("age.min", { n: number(min) });
  if (min < 48 * 60) return t("age.h", { n: Math.floor(min / 60), min: min % 60 });
  return t("age.d", { n: Math.floor(min / 1440) });
}

/** Fill every element under `root` that names its text, title or label by key. */
export function fillTexts(root) {
  for (const el of root.querySelectorAll("[data-text]")) {
    const text = t(el.dataset.text);
    if (el.textContent !== text) el.textContent = text;
  }
  for (const el of root.querySelectorAll("[data-hint]")) el.title = t(el.dataset.hint);
  for (const el of root.querySelectorAll("[data-label]")) el.setAttribute("aria-label", t(el.dataset.label));
  for (const el of root.querySelectorAll("[data-placeholder]")) el.placeholder = t(el.dataset.placeholder);
}
