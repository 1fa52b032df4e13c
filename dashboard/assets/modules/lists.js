// What is coming up, and what is worst now: messages of kinds `coming` and `ranking` in, rows out.

import { chance, fillShortName, placeName, reasons, roadName, shortName } from "./alerts.js";
import { h, isRead, keyed, setAttribute, setText } from "./dom.js";
import { minuteTime, number, t } from "./text.js";

const HIGH = 0.7;
const MIDDLE = 0.5;

/** Keep the rows' order while the list is read: those that are still there stay where they are, new ones come last. */
function steady(container, rows, key) {
  if (!isRead(container) || !container.children.length) return rows;
  const place = new Map([...container.children].map((el, at) => [el.dataset.key, at]));
  const rank = (row) => place.get(String(key(row))) ?? Infinity;
  return [...rows].sort((a, b) => rank(a) - rank(b) || 0);
}

/** Only whole rows: what does not fit is left out rather than cut. */
function fitRows(list, room) {
  const first = list.firstElementChild;
  if (!first) return;
  first.hidden = false;
  const fits = Math.max(1, Math.floor(room / (first.offsetHeight || 1)));
  [...list.children].forEach((el, at) => (el.hidden = at >= fits && !el.contains(document.activeElement)));
}

const emptyState = (name) => h("div", { class: "empty", "data-name": name }, h("strong"), h("p"));

/** Nothing to list is good news only where something is known. */
function fillEmpty(el, show, name, known) {
  el.hidden = !show;
  setText(el.children[0], t(known ? `${name}.none` : "status.no_data"));
  setText(el.children[1], t(`${name}.none_hint`));
}

export class Coming {
  constructor(panel, onPick) {
    this.onPick = onPick;
    this.replay = false; // signals are not stored, so a replay has none to show
    this.list = h("ol", { class: "coming" });
    this.empty = emptyState("coming");
    this.body = panel.querySelector(".body");
    this.body.append(this.list, this.empty);
    new ResizeObserver(() => fitRows(this.list, this.body.clientHeight)).observe(this.body);
  }

  show(message, known) {
    const rows = message?.rows ?? [];
    const key = (row) => row.segment;
    keyed(this.list, steady(this.list, rows, key), key, () => this.row(), (el, row) => this.fill(el, row));
    fillEmpty(this.empty, !rows.length, "coming", known);
    if (this.replay) setText(this.empty.children[0], t("coming.replay"));
    if (this.replay) setText(this.empty.children[1], t("coming.replay_hint"));
    fitRows(this.list, this.body.clientHeight);
  }

  row() {
    const name = h("button", { type: "button", class: "title", on: { click: () => this.onPick(el.row) } }, shortName());
    const bar = h("span", { class: "bar", "aria-hidden": "true" }, h("span"));
    const el = h("li", {}, h("div", { class: "line" }, name, bar, h("span", { class: "share" })), h("p"));
    return el;
  }

  fill(el, row) {
    el.row = row;
    const percent = chance(row.probability);
    fillShortName(el.querySelector(".short"), row);
    setAttribute(el.querySelector(".title"), "title", [roadName(row), placeName(row), row.district].filter(Boolean).join("\n"));
    el.querySelector(".bar span").style.transform = `scaleX(${Math.min(1, row.probability)})`;
    setAttribute(el, "data-weight", row.probability >= HIGH ? "high" : row.probability >= MIDDLE ? "middle" : "low");
    setText(el.querySelector(".share"), percent);
    setAttribute(el.querySelector(".share"), "title", t("coming.probability", { p: percent }));
    const parts = [t("coming.within", { min: row.horizon_min }), ...reasons(row).slice(0, 1)];
    const hints = [t("coming.within_hint", { min: row.horizon_min }), ...reasons(row)];
    if (typeof row.speed_kmh === "number" && typeof row.expected_kmh === "number") {
      const speeds = { speed: number(row.speed_kmh), expected: number(row.expected_kmh) };
      parts.push(t("coming.speed", speeds));
      hints.push(t("coming.speed_hint", speeds));
    }
    setText(el.querySelector("p"), parts.join(t("list.separator")));
    setAttribute(el.querySelector("p"), "title", hints.join("\n"));
  }
}

const COLUMNS = ["number", "road", "delay", "speed", "tti", "since"];

export class Ranking {
  constructor(panel, onPick, onNear) {
    this.onPick = onPick;
    this.onNear = onNear;
    const head = h("tr", {}, ...COLUMNS.map((name) => h("th", { scope: "col", class: name, "data-text": `ranking.${name}`, "data-hint": `ranking.${name}_hint` })));
    this.rows = h("tbody");
    this.table = h("table", { id: "ranking-table", "aria-labelledby": "ranking-title" }, h("thead", {}, head), this.rows);
    this.empty = emptyState("ranking");
    this.body = panel.querySelector(".body");
    this.note = panel.querySelector(".note");
    this.body.append(this.table, this.empty);
    this.message = null;
    this.selected = -1;
    new ResizeObserver(() => this.fitRows()).observe(this.body);
  }

  show(message) {
    this.message = message;
    const rows = message?.rows ?? [];
    const key = (row) => row.segment;
    const ordered = steady(this.rows, rows, key);
    keyed(this.rows, ordered, key, () => this.row(), (el, row) => this.fill(el, row, ordered.indexOf(row) + 1));
    this.table.hidden = !rows.length;
    fillEmpty(this.empty, !rows.length, "ranking", Boolean(message?.time_ms));
    setText(this.note, message?.time_ms ? minuteTime(message.time_ms) : "");
    this.fitRows();
  }

  row() {
    const pick = () => this.onPick(el.row);
    const on = {
      click: pick,
      keydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), pick()),
      pointerenter: () => this.onNear(el.row.segments ?? [el.row.segment]),
      pointerleave: () => this.onNear([]),
    };
    const cell = (name) => h("td", { class: name }, name === "road" ? shortName() : null);
    const el = h("tr", { tabindex: 0, on }, ...COLUMNS.map(cell));
    return el;
  }

  fill(el, row, place) {
    el.row = row;
    const dash = (value, text) => (typeof value === "number" ? text(value) : "–");
    const texts = [
      String(place),
      null,
      dash(row.delay_veh_h_per_h, (value) => number(value, value < 10 ? 1 : 0)),
      dash(row.speed_kmh, (value) => `${number(value)} ${t("unit.kmh")}`),
      dash(row.tti, (value) => number(value, 1)),
      row.since_ms ? minuteTime(row.since_ms) : "–",
    ];
    texts.forEach((text, at) => text === null || setText(el.children[at], text));
    fillShortName(el.querySelector(".short"), row, placeName(row) || row.district);
    setAttribute(el.children[1], "title", [roadName(row), placeName(row), row.district].filter(Boolean).join("\n"));
    setAttribute(el, "data-level", row.level);
    setAttribute(el, "aria-label", `${roadName(row)}, ${t(`level.${row.level}`)}`);
    setAttribute(el, "aria-selected", (row.segments ?? []).includes(this.selected) ? "true" : null);
  }

  select(segment) {
    this.selected = segment;
    if (this.message) this.show(this.message);
  }

  fitRows() {
    fitRows(this.rows, this.body.clientHeight - this.table.tHead.offsetHeight);
  }
}

