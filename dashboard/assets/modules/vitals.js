// The strip of vital signs: messages of kind `vitals` in; tiles with value, change, typical and a small curve out.

import { h, s, setAttribute, setText } from "./dom.js";
import { age, minuteTime, number, t } from "./text.js";

const KEYS = ["tpi", "delay_veh_h_per_h", "speed_kmh", "vehicles", "congested_km", "alerts", "sensors", "data_age"];
const DECIMALS = { tpi: 1, speed_kmh: 1, sensors: 1 };
const UNIT_KEYS = {
  tpi: "unit.index",
  delay_veh_h_per_h: "unit.veh_h_per_h",
  speed_kmh: "unit.kmh",
  vehicles: "unit.vehicles",
  congested_km: "unit.km_of",
  alerts: "unit.alerts",
  sensors: "unit.share_of",
};
const LEAST_POINTS = 6;
// Less than this from lowest to highest is noise, and is drawn as calm as it is.
const LEAST_SPAN = {
  tpi: 0.6,
  delay_veh_h_per_h: 60,
  speed_kmh: 3,
  vehicles: 300,
  congested_km: 3,
  alerts: 2,
  sensors: 2,
};
const SPARK = { width: 100, height: 26 };

export class Vitals {
  constructor(list) {
    this.list = list;
    this.replay = false; // of a replay neither sensors nor the age of data are known
    this.tiles = new Map();
    for (const key of KEYS) this.tiles.set(key, this.tile(key));
  }

  tile(key) {
    const name = h("span", { class: "name" });
    const value = h("span", { class: "value" });
    const unit = h("span", { class: "unit" });
    const change = h("span", { class: "change" });
    const line = s("polyline", { points: "" });
    const view = { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none" };
    const spark = s("svg", { ...view, "aria-hidden": "true" }, line);
    const el = h("li", { class: "vital", "data-vital": key }, name, h("span", { class: "number" }, value, unit), change, spark);
    this.list.append(el);
    return { el, name, value, unit, change, line };
  }

  show(message) {
    const items = new Map((message?.items ?? []).map((item) => [item.key, item]));
    for (const [key, tile] of this.tiles) if (key !== "data_age") this.fill(key, tile, items.get(key), message);
  }

  fill(key, tile, item, message) {
    setText(tile.name, t(`vital.${key}`));
    const known = item && item.value !== null && item.value !== undefined;
    setText(tile.value, known ? number(item.value, DECIMALS[key] ?? 0) : "–");
    setText(tile.unit, this.unit(key, item));
    const change = known ? changeOf(key, item) : { text: t(this.replay ? "vital.replay" : "vital.none"), arrow: "" };
    setText(tile.change, `${change.arrow}${change.arrow ? " " : ""}${change.text}`);
    setAttribute(tile.el, "data-abnormal", known && item.abnormal > 0 ? "worse" : null);
    setAttribute(tile.el, "title", this.hint(key, item, message));
    setAttribute(tile.line, "points", sparkPoints(item?.spark ?? [], LEAST_SPAN[key]));
  }

  unit(key, item) {
    const total = key === "sensors" ? item?.detail?.total : item?.detail?.length_km;
    if (key === "congested_km" && !total) return t("unit.km");
    if (key === "sensors" && !total) return t("unit.share");
    return t(UNIT_KEYS[key], { total: total ? number(total) : "" });
  }

  hint(key, item, message) {
    const lines = [t(`vital.${key}.hint`)];
    if (typeof item?.typical === "number")
      lines.push(t("vital.hint_typical", { typical: number(item.typical, DECIMALS[key] ?? 0) }));
    if (typeof item?.detail?.change_30min === "number") lines.push(halfHour(item.detail.change_30min));
    if (typeof item?.detail?.coverage === "number")
      lines.push(t("vital.hint_coverage", { share: number(100 * item.detail.coverage) }));
    if (message?.time_ms) lines.push(t("change.data_time", { time: minuteTime(message.time_ms) }));
    if (message?.provisional) lines.push(t("vital.provisional"));
    return lines.join("\n");
  }

  /** The age of the data is counted on between messages. */
  showAge(seconds, timeMs, stale) {
    const tile = this.tiles.get("data_age");
    const known = seconds !== null && seconds !== undefined;
    const minutes = known && seconds >= 100;
    setText(tile.name, t("vital.data_age"));
    setText(tile.value, known && !this.replay ? number(minutes ? Math.floor(seconds / 60) : Math.round(seconds)) : "–");
    setText(tile.unit, known && !this.replay ? t(minutes ? "unit.min" : "unit.s") : "");
    setText(tile.change, timeMs ? t("change.data_time", { time: minuteTime(timeMs) }) : t("vital.none"));
    setAttribute(tile.el, "data-abnormal", known && stale && !this.replay ? "worse" : null);
    setAttribute(tile.el, "title", t("vital.data_age.hint"));
  }
}

function changeOf(key, item) {
  const detail = item.detail ?? {};
  if (key === "alerts") {
    if (!item.value) return { text: t("change.none_open"), arrow: "" };
    return { text: t("change.oldest", { age: age(60 * (detail.oldest_min ?? 0)) }), arrow: "" };
  }
  if (key === "sensors") {
    const unheard = Math.round((1 - item.value / 100) * (detail.total ?? 0));
    if (!detail.silent && !detail.doubtful)
      return { text: unheard > 0 ? t("change.not_heard", { n: number(unheard) }) : t("change.all_report"), arrow: "" };
    const places = { silent: number(detail.silent ?? 0), doubtful: number(detail.doubtful ?? 0) };
    return { text: t("change.sensors", places), arrow: "" };
  }
  if (typeof item.change === "number") return compared(item, DECIMALS[key] ?? 0);
  if (typeof item.typical !== "number") return { text: t("change.no_typical"), arrow: "" };
  return compared({ change: item.value - item.typical, change_unit: item.unit }, DECIMALS[key] ?? 0);
}

/** The change in words and with an arrow; nothing worth telling is "as usual". */
function compared(item, digits) {
  const percent = item.change_unit === "%";
  const decimals = percent ? 0 : digits;
  const size = number(Math.abs(item.change), decimals);
  if (size === number(0, decimals)) return { text: t("change.as_usual"), arrow: "" };
  const up = item.change > 0;
  const value = percent ? `${size} %` : size;
  return { text: t(up ? "change.above" : "change.below", { value }), arrow: up ? "▲" : "▼" };
}

function halfHour(change) {
  const size = number(Math.abs(change));
  if (size === number(0)) return t("change.steady");
  return t(change > 0 ? "change.more" : "change.less", { value: `${size} ${t("unit.km")}` });
}

/** Points of the small curve, over its own range but never so fine that noise looks like news. */
export function sparkPoints(values, leastSpan) {
  const known = values.filter((value) => typeof value === "number");
  if (known.length < LEAST_POINTS) return "";
  const low = Math.min(...known);
  const high = Math.max(...known);
  const span = Math.max(high - low, 0.04 * Math.abs(high), leastSpan);
  const y = (value) => SPARK.height - 2 - ((value - (low + high) / 2) / span + 0.5) * (SPARK.height - 4);
  const step = SPARK.width / (values.length - 1);
  return values
    .map((value, at) => (typeof value === "number" ? `${(at * step).toFixed(1)},${y(value).toFixed(1)}` : ""))
    .filter(Boolean)
    .join(" ");
}
