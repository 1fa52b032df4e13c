// One segment beside the map: name, speed now, facts, sensors and alerts there. Its chart is Dash's (dashboard.charts).

import { alertTitle, placeName, plainRoad } from "./alerts.js";
import { h, keyed, setAttribute, setText, severityIcon } from "./dom.js";
import { minuteTime, number, t } from "./text.js";

const REFRESH_MS = 10_000;

export class Segment {
  /** `on.close()`, `on.pick(segment)`, `on.alert(id)`. */
  constructor(panel, on) {
    this.panel = panel;
    this.title = h("h2", { tabindex: -1 });
    this.place = h("p", { class: "hint" });
    this.reverse = h("button", { type: "button", class: "small", on: { click: () => on.pick(this.twin) } });
    const close = h("button", { type: "button", class: "close", "data-label": "segment.close", "data-hint": "segment.close", on: { click: on.close } }, "×");
    panel.querySelector("#segment-head").append(h("div", {}, this.title, this.place), this.reverse, close);
    this.speed = h("span", { class: "value" });
    this.level = h("span", { class: "level" });
    this.facts = h("dl");
    const now = h("div", { class: "now" }, h("span", { class: "number" }, this.speed, h("span", { class: "unit", "data-text": "unit.kmh" })), this.level);
    panel.querySelector("#segment-facts").append(now, this.facts);
    this.detectors = this.listOf("segment.detectors");
    this.alerts = this.listOf("segment.alerts");
    this.on = on;
    this.index = -1;
    setInterval(() => this.index >= 0 && !document.hidden && this.load(), REFRESH_MS);
  }

  listOf(key) {
    const list = h("ul");
    const none = h("p", { class: "hint" });
    this.panel.querySelector("#segment-lists").append(h("h3", { "data-text": key }), list, none);
    return { list, none };
  }

  open(index, network, twin) {
    const other = index !== this.index;
    this.index = index;
    this.twin = twin;
    this.network = network;
    this.panel.hidden = false;
    this.reverse.hidden = twin < 0;
    if (other) {
      this.answer = null;
      this.draw();
    }
    this.load();
  }

  close() {
    this.index = -1;
    this.panel.hidden = true;
  }

  async load() {
    const asked = this.index;
    const query = this.run ? `?run=${encodeURIComponent(this.run)}` : "";
    try {
      const response = await fetch(`api/v1/segment/${asked}${query}`);
      if (!response.ok) throw new Error(String(response.status));
      const answer = await response.json();
      if (asked !== this.index) return;
      this.answer = answer;
      this.failed = false;
    } catch {
      if (asked !== this.index) return;
      this.failed = true;
    }
    this.draw();
  }

  /** The speed and level that the live map shows, between answers. */
  live(speed, level) {
    setText(this.speed, speed > 0 ? number(speed) : "–");
    setText(this.level, t(`level.${level}`));
    setAttribute(this.level, "data-level", level);
  }

  draw() {
    if (this.index < 0) return;
    const { network: n, index: i, answer: a } = this;
    const name = n.meta.roads[n.road[i]] || t("map.unnamed");
    const road = a?.road ? plainRoad(a) : name;
    setText(this.title, a?.direction ? `${road} ${t(`direction.${a.direction}`)}` : road);
    this.title.title = this.title.textContent;
    setText(this.place, this.failed && !a ? t("segment.failed") : [a && placeName(a), a?.district].filter(Boolean).join(t("list.separator")));
    this.place.title = this.place.textContent;
    setText(this.reverse, t("segment.reverse"));
    this.drawFacts();
    this.drawDetectors(a?.detectors ?? []);
    this.drawAlerts(a?.alerts ?? []);
  }

  drawFacts() {
    const { network: n, index: i, answer: a } = this;
    const limit = a?.limit_kmh ?? a?.limit;
    const kmh = (value) => `${number(value)} ${t("unit.kmh")}`;
    const facts = [
      ["segment.typical_now", typeof a?.typical_kmh === "number" ? kmh(a.typical_kmh) : "–"],
      ["segment.free_flow", kmh(n.freeFlowKmh[i])],
      ...(typeof limit === "number" ? [["segment.limit", kmh(limit)]] : []),
      ["segment.length", `${number(n.lengthKm[i], 2)} ${t("unit.km")}`],
      ["segment.lanes", number(n.lanes[i])],
    ];
    const make = () => h("div", {}, h("dt"), h("dd"));
    keyed(this.facts, facts, ([key]) => key, make, (el, [key, value]) => {
      setText(el.children[0], t(key));
      setText(el.children[1], value);
    });
  }

  drawDetectors(detectors) {
    const { list, none } = this.detectors;
    const make = () => h("li", {}, h("i"), h("span", { class: "word" }), h("span", { class: "km" }));
    keyed(list, detectors, (d) => d.id, make, (el, d) => {
      setAttribute(el, "data-state", d.state);
      setText(el.children[1], [t(`detector.kind.${d.kind}`), d.id].join(" "));
      el.children[1].title = d.id;
      const state = d.reason ? t(`detector.reason.${d.reason}`) : t(`detector.state.${d.state}`);
      setText(el.children[2], d.last_seen_ms ? `${state}, ${minuteTime(d.last_seen_ms)}` : state);
    });
    none.hidden = detectors.length > 0 || !this.answer;
    setText(none, t("segment.no_detectors"));
  }

  drawAlerts(alerts) {
    const { list, none } = this.alerts;
    const make = () => h("li", {}, h("span", { class: "icon" }), h("button", { type: "button", class: "title" }), h("span", { class: "km" }));
    keyed(list, alerts, (a) => a.alert_id, make, (el, a) => {
      el.children[0].replaceChildren(severityIcon(a.severity, a.state === "resolved"));
      setText(el.children[1], alertTitle(a));
      el.children[1].onclick = () => this.on.alert(a.alert_id);
      setText(el.children[2], minuteTime(a.detected_ms));
    });
    none.hidden = alerts.length > 0 || !this.answer;
    setText(none, t("segment.no_alerts"));
  }
}
