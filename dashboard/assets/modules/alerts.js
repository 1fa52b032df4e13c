// The alerts: messages of kind `alerts` in, cards with shape, age and Acknowledge out. The list holds still while read.

import { h, isRead, keyed, setAttribute, setText, severityIcon } from "./dom.js";
import { age, has, minuteTime, number, t } from "./text.js";

const ORDER = { open: 0, acknowledged: 1, resolved: 2 };
const RECENT_MS = 600_000;
const HELD_CHECK_MS = 500;

/** Newest that needs a person first, then those in hand, then what is over. */
const sorted = (alerts) =>
  [...alerts].sort((a, b) => ORDER[a.state] - ORDER[b.state] || b.detected_ms - a.detected_ms);

const ARROW = "\u2192";
const HELD_QUEUE_MS = 600_000;
const LEAST_QUEUE_MS = 180_000;
const LEAST_QUEUE_KM = 0.15;

/** The road's name; of one without, the road that it leads to. */
export function plainRoad(item) {
  const road = item.road || (item.district ? t("map.unnamed_in", { area: item.district }) : t("map.unnamed"));
  return road.startsWith(`${ARROW} `) ? t("map.link_to", { road: road.slice(2) }) : road;
}

/** Between which crossing roads, in words where only one is known. */
export function placeName(item) {
  const place = item.place ?? "";
  if (place.startsWith(`${ARROW} `)) return t("place.to", { road: place.slice(2) });
  if (place.endsWith(` ${ARROW}`)) return t("place.from", { road: place.slice(0, -2) });
  return place;
}

/** A probability as a share; nobody knows anything for certain. */
export const chance = (p) => (p >= 0.995 ? `> ${number(99)} %` : `${number(100 * p)} %`);

/** Road with its direction, or a word for a road without a name. */
export function roadName(item) {
  const road = plainRoad(item);
  return item.direction ? `${road} ${t(`direction.${item.direction}`)}` : road;
}

/** The same for a narrow place: the name may be cut, the direction never is. */
export const shortName = () => h("span", { class: "short" }, h("span"), h("small"), h("em"));

export function fillShortName(el, item, place = "") {
  setText(el.children[2], place);
  setText(el.children[0], plainRoad(item));
  setText(el.children[1], item.direction ? t(`direction.short.${item.direction}`) : "");
}

export function alertTitle(alert) {
  // What only detectors say may be something else: of three such alerts on the demo city two were true.
  const reported = alert.kind === "incident" && alert.reason.includes("reported");
  const title = t(`alert.${alert.kind}${reported ? ".reported" : ""}`, { road: roadName(alert) });
  return alert.state === "resolved" ? t("alert.resolved", { title }) : title;
}

export const reasons = (item) => (item.reason ?? []).filter((code) => has(`reason.${code}`)).map((code) => t(`reason.${code}`));

function facts(alert, trend) {
  const parts = [];
  if (alert.kind === "congestion_expected" && alert.horizon_min) parts.push(t("alert.in_min", { min: alert.horizon_min }));
  if (typeof alert.speed_kmh === "number") {
    const speed = number(alert.speed_kmh);
    const known = typeof alert.expected_kmh === "number";
    parts.push(known ? t("alert.speed", { speed, expected: number(alert.expected_kmh) }) : t("alert.speed_only", { speed }));
  }
  if (alert.queue_km >= 0.05) parts.push(t(`alert.queue${trend}`, { km: number(alert.queue_km, 1) }));
  if (alert.delay_veh_h >= 0.5) parts.push(t("alert.delay", { delay: number(alert.delay_veh_h) }));
  return parts.join(t("list.separator"));
}

const where = (alert) => [placeName(alert), alert.district].filter(Boolean).join(t("list.separator"));

const why = (alert) =>
  [t("alert.confidence", { p: chance(alert.probability) }), ...reasons(alert).slice(0, 2)].join(t("list.separator"));

export class Alerts {
  /** `on.pick(alert)`, `on.near(id)`, `on.fresh(alerts)` for ones never seen, `on.shown(alerts)`. */
  constructor(panel, on) {
    this.on = on;
    this.body = panel.querySelector(".body");
    this.hint = panel.querySelector(".hint");
    this.note = panel.querySelector(".note");
    this.held = h("button", { type: "button", class: "held", hidden: true, on: { click: () => this.settle(true) } });
    this.list = h("ol", { class: "cards", role: "log", "data-label": "alerts.title" });
    this.empty = h("div", { class: "empty", hidden: true }, h("strong"), h("p"));
    this.body.append(this.held, this.list, this.empty);
    this.alerts = null;
    this.seen = null;
    this.queues = new Map(); // alert id -> [{ ms, km }] of the last ten minutes, oldest first
    this.pending = new Map(); // alert id -> text of what happened to the last acknowledgement
    setInterval(() => this.held.hidden || this.settle(false), HELD_CHECK_MS);
  }

  take(message, nowMs) {
    this.alerts = message.alerts;
    this.measureQueues();
    const fresh = this.seen ? this.alerts.filter((alert) => alert.state === "open" && !this.seen.has(alert.alert_id)) : [];
    this.seen = new Set([...(this.seen ?? []), ...this.alerts.map((alert) => alert.alert_id)]);
    if (fresh.length) this.on.fresh(fresh);
    this.draw(nowMs);
    this.on.shown(this.alerts);
  }

  /** Remember the queues, to tell what they do. */
  measureQueues() {
    const before = this.queues;
    this.queues = new Map();
    for (const { alert_id: id, updated_ms: ms, queue_km: km } of this.alerts) {
      const kept = (before.get(id) ?? []).filter((each) => ms - each.ms <= HELD_QUEUE_MS && each.ms < ms);
      this.queues.set(id, [...kept, { ms, km }]);
    }
  }

  /** The ending of the queue's text: grows, shrinks, steady, or nothing before some minutes are known. */
  trend(alert) {
    const kept = this.queues.get(alert.alert_id) ?? [];
    const [first, last] = [kept[0], kept.at(-1)];
    if (!first || last.ms - first.ms < LEAST_QUEUE_MS) return "";
    const change = last.km - first.km;
    return Math.abs(change) < LEAST_QUEUE_KM ? "_steady" : change > 0 ? "_grows" : "_shrinks";
  }

  /** Draw, in a new order only while nobody reads the list. */
  draw(nowMs, force = false) {
    this.nowMs = nowMs ?? this.nowMs;
    const alerts = sorted(this.alerts ?? []);
    let shown = alerts;
    if (!force && isRead(this.body) && this.list.children.length) {
      const place = new Map([...this.list.children].map((el, at) => [el.dataset.key, at]));
      shown = alerts.filter((a) => place.has(a.alert_id)).sort((a, b) => place.get(a.alert_id) - place.get(b.alert_id));
    }
    const waiting = alerts.length - shown.length;
    this.held.hidden = waiting === 0;
    setText(this.held, t("alerts.waiting", { n: waiting }));
    keyed(this.list, shown, (alert) => alert.alert_id, () => this.card(), (el, alert) => this.fill(el, alert));
    this.head(alerts);
    this.empty.hidden = alerts.length > 0;
    setText(this.empty.children[0], t("alerts.none"));
    setText(this.empty.children[1], t("alerts.none_hint"));
  }

  settle(force) {
    if (force || !isRead(this.body)) this.draw(this.nowMs, force);
  }

  head(alerts) {
    const open = alerts.filter((alert) => alert.state !== "resolved");
    const recent = alerts.filter((alert) => this.nowMs - alert.detected_ms < RECENT_MS);
    setText(this.hint, this.alerts ? t("alerts.open", { n: open.length }) : "");
    setText(this.note, recent.length ? t("alerts.recent", { n: recent.length }) : "");
  }

  card() {
    const title = h("button", { type: "button", class: "title", on: { click: () => this.on.pick(el.alert) } });
    const acknowledge = h("button", { type: "button", class: "primary", on: { click: () => this.acknowledge(el.alert) } });
    const el = h(
      "li",
      { class: "card", on: { pointerenter: () => this.on.near(el.alert.alert_id), pointerleave: () => this.on.near(null) } },
      h("span", { class: "icon" }),
      h("div", { class: "text" }, h("div", { class: "line" }, title, h("time")), h("p", { class: "where" }), h("p", { class: "facts" }), h("div", { class: "foot" }, h("p", { class: "why" }), h("div", { class: "actions" }, acknowledge, h("span", { class: "said", role: "status" })))),
    );
    return el;
  }

  fill(el, alert) {
    el.alert = alert;
    const look = `${alert.severity} ${alert.state}`;
    if (el.dataset.look !== look) {
      el.dataset.look = look;
      el.querySelector(".icon").replaceChildren(severityIcon(alert.severity, alert.state === "resolved"));
    }
    setAttribute(el, "data-state", alert.state);
    setAttribute(el.querySelector(".icon"), "title", t(`alert.severity.${alert.severity}`));
    const title = el.querySelector(".title");
    setText(title, alertTitle(alert));
    setAttribute(title, "title", `${alertTitle(alert)}\n${t("alert.show")}`);
    this.fillTimes(el, alert);
    const over = alert.state === "resolved";
    this.fillLine(el, ".where", over ? "" : where(alert));
    this.fillLine(el, ".facts", over ? this.outcome(alert) : facts(alert, this.trend(alert)));
    this.fillLine(el, ".why", over ? "" : why(alert), [...reasons(alert), t("alert.confidence_hint")].join("\n"));
    const button = el.querySelector(".primary");
    button.hidden = alert.state !== "open";
    setText(button, t("alert.acknowledge"));
    setText(el.querySelector(".said"), this.said(alert));
  }

  fillLine(el, line, words, hint = words) {
    setText(el.querySelector(line), words);
    setAttribute(el.querySelector(line), "title", hint || null);
  }

  fillTimes(el, alert) {
    const time = el.querySelector("time");
    const over = alert.state === "resolved";
    setText(time, over ? minuteTime(alert.resolved_ms ?? alert.updated_ms) : age((this.nowMs - alert.detected_ms) / 1000));
    setAttribute(time, "title", t("alert.times", { started: minuteTime(alert.started_ms), detected: minuteTime(alert.detected_ms) }));
  }

  outcome(alert) {
    const lasted = ((alert.resolved_ms ?? alert.updated_ms) - alert.started_ms) / 1000;
    return [t("alert.lasted", { age: age(lasted) }), ...reasons(alert).slice(0, 1)].join(t("list.separator"));
  }

  said(alert) {
    if (this.pending.has(alert.alert_id)) return this.pending.get(alert.alert_id);
    if (alert.state !== "acknowledged") return "";
    const by = alert.acknowledged_by === "operator" ? t("operator") : alert.acknowledged_by;
    return t("alert.acknowledged", { by });
  }

  /** Show it acknowledged at once; the server's word, or its refusal, follows over the socket. */
  async acknowledge(alert) {
    const before = { ...alert };
    Object.assign(alert, { state: "acknowledged", acknowledged_by: "operator" });
    this.draw(this.nowMs);
    const said = await this.post(before);
    if (!said) return;
    this.alerts = this.alerts.map((each) => (each.alert_id === alert.alert_id && each === alert ? before : each));
    this.pending.set(alert.alert_id, said);
    setTimeout(() => this.pending.delete(alert.alert_id), 6000);
    this.draw(this.nowMs);
  }

  /** The text of what went wrong, empty if nothing did. */
  async post(alert) {
    try {
      const answer = await fetch(`api/v1/alerts/${encodeURIComponent(alert.alert_id)}/acknowledge`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ by: "operator", version: alert.version }),
      });
      if (answer.ok) return "";
      return t(answer.status === 412 ? "alert.clash" : "alert.failed");
    } catch {
      return t("alert.failed");
    }
  }
}
