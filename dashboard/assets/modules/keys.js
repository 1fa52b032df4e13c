// What the lines of the two charts mean, beside their titles.

import { h, keyed, setText } from "./dom.js";
import { t, weekday } from "./text.js";

function draw(host, items) {
  const make = ({ shape }) => h("span", { class: "key" }, h("i", { class: shape }), h("span"));
  keyed(host, items, ({ shape }) => shape, make, (el, { text }) => setText(el.lastElementChild, text));
}

/** Kind of day, as the typical week knows it (`citybrain.typical.DAY_TYPES`). */
const kindOfDay = (ms) => ({ 6: "saturday", 0: "sunday" })[weekday(ms)] ?? "weekday";

export function chartKeys(indexHost, segmentHost, nowMs) {
  draw(indexHost, [
    { shape: "today", text: t("index.today") },
    { shape: "band", text: t("index.typical", { day: t(`index.day.${kindOfDay(nowMs)}`) }) },
    { shape: "ahead", text: t("index.forecast") },
  ]);
  draw(segmentHost, [
    { shape: "today", text: t("segment.today") },
    { shape: "band", text: t("segment.typical") },
    { shape: "ahead", text: t("segment.forecast") },
  ]);
}
