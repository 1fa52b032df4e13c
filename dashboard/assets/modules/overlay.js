// What lies over the roads: names, alert markers, the chosen and the hovered segment. Moved with the view each frame.

import { h, keyed, s, setAttribute, severityIcon } from "./dom.js";
import { toScreen } from "./viewport.js";
import { width } from "./widths.js";

const ROAD_LABELS = 16;
const MINOR_LABEL_SCALE = [0, 0, 0.12, 0.3, 0.7, 1.2, 9, 9];
const AREA_UNTIL_SCALE = 0.6; // nearer than this, the roads' names say where one is
const LETTER = 6.6; // px a letter of a label, for room
const WIDE_LETTER = 11.5;

const textWidth = (text, unit) =>
  [...text].reduce((sum, letter) => sum + (letter.charCodeAt(0) > 0x2e80 ? WIDE_LETTER : LETTER), 0) * unit;

export class Overlay {
  constructor(map, chains, onAlert) {
    this.map = map;
    this.chains = chains;
    this.onAlert = onAlert;
    this.lines = s("svg", { class: "lines", "aria-hidden": "true" });
    this.names = h("div", { class: "names", "aria-hidden": "true" });
    this.markers = h("div", { class: "markers" });
    this.labels = [];
    this.alerts = [];
    this.marked = { selected: [], hover: [] };
    map.surface.prepend(this.lines); // behind the roads, which are drawn on nothing
    map.surface.append(this.names);
    map.surface.after(this.markers); // an image has no buttons in it
  }

  /** Follow the view; when it rests, choose names anew. */
  update(rests) {
    if (rests) this.choose();
    this.placeAll();
  }

  placeAll() {
    const { view, size } = this.map;
    for (const { el, x, y, turn } of this.labels) {
      const [px, py] = toScreen(view, size, x, y);
      el.style.transform = `translate(${px}px, ${py}px) translate(-50%, -50%) rotate(${turn}rad)`;
    }
    for (const { el, x, y } of this.alerts) {
      const [px, py] = toScreen(view, size, x, y);
      el.style.transform = `translate(${px}px, ${py}px) translate(-50%, -50%)`;
    }
    this.drawLines();
  }

  // ---- names --------------------------------------------------------------------------------------------------

  choose() {
    const taken = this.alerts.map(({ x, y }) => this.boxAround(...this.pixel(x, y), 34, 34));
    const labels = [...this.areaLabels(taken), ...this.roadLabels(taken)];
    const make = (item) => h("span", { class: item.kind });
    keyed(this.names, labels, (item) => item.key, make, (el, item) => {
      if (el.textContent !== item.name) el.textContent = item.name;
      item.el = el;
    });
    this.labels = labels;
  }

  pixel = (x, y) => toScreen(this.map.view, this.map.size, x, y);

  boxAround(px, py, wide, high) {
    return [px - wide / 2, py - high / 2, px + wide / 2, py + high / 2];
  }

  /** Reserve a box if it is free and in view. */
  reserve(taken, box) {
    const { width: w, height: hgt } = this.map.size;
    if (box[0] < 4 || box[1] < 44 || box[2] > w - 4 || box[3] > hgt - 4) return false;
    if (taken.some((b) => box[0] < b[2] && box[2] > b[0] && box[1] < b[3] && box[3] > b[1])) return false;
    taken.push(box);
    return true;
  }

  *areaLabels(taken) {
    const { meta } = this.map.network;
    if (meta.schematic) return;
    for (const [at, area] of meta.areas.entries()) {
      if (area.level !== "district" || this.map.view.scale >= AREA_UNTIL_SCALE) continue;
      const box = this.boxAround(...this.pixel(area.x, area.y), textWidth(area.name, this.map.unit) + 12, 20 * this.map.unit);
      if (this.reserve(taken, box))
        yield { key: `a${at}`, kind: area.level, name: area.name, x: area.x, y: area.y, turn: 0 };
    }
  }

  *roadLabels(taken) {
    const named = new Set();
    const { scale } = this.map.view;
    for (const [at, chain] of this.chains.entries()) {
      if (named.size >= ROAD_LABELS) return;
      if (named.has(chain.name) || scale < MINOR_LABEL_SCALE[chain.roadClass]) continue;
      const room = textWidth(chain.name, this.map.unit) * 1.15 + 8;
      if (chain.km * 1000 * scale < room * 1.3) continue;
      const spot = this.straightSpot(chain, room / scale, taken, room);
      if (!spot) continue;
      named.add(chain.name);
      yield { key: `r${at}`, kind: "road", name: chain.name, ...spot };
    }
  }

  /** A place along the chain that is straight for the whole name, in view and free. */
  straightSpot(chain, needM, taken, room) {
    const { xy } = chain;
    for (let from = 0; from + 2 < xy.length; from += 2) {
      let along = 0;
      let to = from;
      while (along < needM && to + 3 < xy.length) {
        along += Math.hypot(xy[to + 2] - xy[to], xy[to + 3] - xy[to + 1]);
        to += 2;
      }
      if (along < needM) return null;
      const [dx, dy] = [xy[to] - xy[from], xy[to + 1] - xy[from + 1]];
      if (Math.hypot(dx, dy) < 0.975 * along) continue;
      const [x, y] = [(xy[from] + xy[to]) / 2, (xy[from + 1] + xy[to + 1]) / 2];
      const [px, py] = this.pixel(x, y);
      let turn = -Math.atan2(dy, dx);
      if (Math.abs(turn) > Math.PI / 2) turn -= Math.sign(turn) * Math.PI;
      const wide = Math.abs(Math.cos(turn)) * room + 14;
      const high = Math.abs(Math.sin(turn)) * room + 14;
      if (this.reserve(taken, this.boxAround(px, py, wide, high))) return { x, y, turn };
    }
    return null;
  }

  // ---- alerts -------------------------------------------------------------------------------------------------

  showAlerts(alerts, label) {
    this.alerts = alerts
      .filter((alert) => alert.state !== "resolved")
      .map((alert) => {
        const [x, y] = Number.isFinite(alert.x) ? [alert.x, alert.y] : this.map.grid.middle(alert.segments[0]);
        return { alert, x, y };
      })
      .filter(({ x }) => Number.isFinite(x));
    const make = ({ alert }) =>
      h("button", { type: "button", class: "marker", on: { click: () => this.onAlert(alert.alert_id) } });
    keyed(this.markers, this.alerts, ({ alert }) => alert.alert_id, make, (el, item) => {
      const { alert } = item;
      item.el = el;
      if (el.dataset.severity !== alert.severity) el.replaceChildren(severityIcon(alert.severity));
      setAttribute(el, "data-severity", alert.severity);
      setAttribute(el, "data-state", alert.state);
      setAttribute(el, "title", label(alert));
      setAttribute(el, "aria-label", label(alert));
    });
    this.placeAll();
  }

  emphasize(alertId) {
    for (const el of this.markers.children) setAttribute(el, "data-near", el.dataset.key === alertId ? "" : null);
  }

  // ---- the chosen and the hovered segment ---------------------------------------------------------------------

  mark(kind, segments) {
    this.marked[kind] = segments;
    this.drawLines();
  }

  drawLines() {
    const items = Object.entries(this.marked).flatMap(([kind, list]) => list.map((i) => ({ kind, i })));
    const make = () => s("path");
    keyed(this.lines, items, ({ kind, i }) => `${kind}${i}`, make, (el, { kind, i }) => {
      const { map } = this;
      const wide = width(map.network.roadClass[i], map.classes[i], map.grown());
      setAttribute(el, "class", kind);
      setAttribute(el, "d", this.path(i));
      setAttribute(el, "stroke-width", (wide + (kind === "selected" ? 9 : 5) * map.unit).toFixed(1));
    });
  }

  path(i) {
    const { map } = this;
    const { start, points } = map.network;
    const apart = map.shiftOf(i);
    const { right } = map.grid;
    let d = "";
    for (let k = start[i]; k < start[i + 1]; k++) {
      const place = this.pixel(points[2 * k] + right[2 * k] * apart, points[2 * k + 1] + right[2 * k + 1] * apart);
      d += `${d ? "L" : "M"}${place[0].toFixed(1)} ${place[1].toFixed(1)}`;
    }
    return d;
  }
}
