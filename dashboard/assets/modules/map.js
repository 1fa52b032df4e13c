// The map on the page: holds the view, hands bytes to the worker, finds the segment under the pointer, and moves.
//
// While the view moves, the finished picture is shifted and scaled; it is painted anew once the movement rests.

import { h, setAttribute } from "./dom.js";
import { table } from "./layers.js";
import { Grid, parseNetwork } from "./network.js";
import { clamp, fit, home, toWorld, zoomAt } from "./viewport.js";
import { growth, shift, shown, width } from "./widths.js";

const REST_MS = 140;
const REACH_PX = 9;
const KEY_STEP_PX = 90;
const ZOOM_STEP = 1.5;

/** Median of the points, where the roads are dense. */
function median(points) {
  const middle = (offset) => points.filter((_, at) => at % 2 === offset).sort()[points.length >> 2];
  return [middle(0), middle(1)];
}

export class RoadMap {
  /** `on` hears of `view` (moving, resting), `hover`, `pick` and `painted`. */
  constructor(host, on) {
    this.host = host;
    this.on = on;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.surface = h("div", { id: "map", role: "img", tabindex: 0, "data-label": "map.label", "aria-describedby": "map-keys ranking-table" }, this.canvas);
    host.append(this.surface, h("p", { id: "map-keys", class: "spoken", "data-text": "map.keys" }));
    this.layer = 0;
    this.layers = new Map();
    this.paintedView = null;
    this.viewId = 0;
    this.stats = { ticks: 0, lastMs: 0, drawn: 0 };
  }

  start(buffer, wanted) {
    this.network = parseNetwork(buffer);
    this.grid = new Grid(this.network);
    this.classes = new Uint8Array(this.network.n);
    this.bounds = this.network.meta.bounds;
    this.measure();
    this.view = wanted?.(this.network.meta) ?? this.homeView();
    this.worker = new Worker(new URL("./map-worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = (event) => this.heard(event.data);
    const canvas = this.canvas.transferControlToOffscreen();
    this.worker.postMessage({ type: "init", canvas, network: buffer, style: this.style() }, [canvas]);
    for (const [layer, values] of this.layers) if (layer === this.layer) this.reclass(values);
    this.listen();
    this.repaint({ size: true });
    new ResizeObserver(() => this.resized()).observe(this.surface);
    document.addEventListener("visibilitychange", () => !document.hidden && this.sendAll());
  }

  /** Colours and sizes from the style sheet, which alone knows them. */
  style() {
    const css = getComputedStyle(document.documentElement);
    const colors = [0, 1, 2, 3, 4, 5].map((level) => css.getPropertyValue(`--level-${level}`).trim());
    return { colors, unit: parseFloat(css.fontSize) / 16 };
  }

  measure() {
    const { clientWidth, clientHeight } = this.surface;
    this.size = { width: Math.max(1, clientWidth), height: Math.max(1, clientHeight), dpr: window.devicePixelRatio || 1 };
    this.unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    // Whole pixels, or the browser would resample the picture and blur it.
    const { width: w, height: hgt, dpr } = this.size;
    this.canvas.style.width = `${Math.round(w * dpr) / dpr}px`;
    this.canvas.style.height = `${Math.round(hgt * dpr) / dpr}px`;
  }

  resized() {
    const before = this.size;
    this.measure();
    if (before.width === this.size.width && before.height === this.size.height && before.dpr === this.size.dpr) return;
    this.repaint({ size: true });
  }

  restyle() {
    this.repaint({ style: true });
  }

  // ---- values -------------------------------------------------------------------------------------------------

  /** Take a layer whole (`changed` null) or the indices that changed in it. */
  take(layer, values, changed, received) {
    this.layers.set(layer, values);
    if (layer !== this.layer || !this.network) return;
    if (changed === null || changed.length > values.length / 4) this.reclass(values, received);
    else this.change(values, changed, received);
  }

  show(layer) {
    this.layer = layer;
    const values = this.layers.get(layer);
    if (values) this.reclass(values);
    else this.reclass(new Uint8Array(this.network?.n ?? 0));
  }

  reclass(values, received = performance.now()) {
    if (!this.network || values.length !== this.network.n) return;
    const classOf = table(this.layer);
    for (let i = 0; i < values.length; i++) this.classes[i] = classOf[values[i]];
    this.sendAll(received);
  }

  sendAll(received = performance.now()) {
    if (!document.hidden) this.worker?.postMessage({ type: "classes", classes: this.classes, received });
  }

  change(values, changed, received) {
    const classOf = table(this.layer);
    const index = [];
    for (const i of changed) {
      const drawn = classOf[values[i]];
      if (drawn === this.classes[i]) continue;
      this.classes[i] = drawn;
      index.push(i);
    }
    if (!index.length || document.hidden) return;
    const message = { type: "changes", index: Uint32Array.from(index), received };
    this.worker.postMessage({ ...message, values: Uint8Array.from(index, (i) => this.classes[i]) });
  }

  heard(message) {
    if (message.type === "view") {
      this.paintedView = message.view;
      this.place();
      this.on.view?.(true);
    } else {
      this.stats.ticks += 1;
      this.stats.lastMs = performance.now() - message.received;
    }
    this.stats.drawn = message.drawn;
    this.on.painted?.(message);
  }

  // ---- view ---------------------------------------------------------------------------------------------------

  repaint({ size = false, style = false } = {}) {
    if (!this.worker) return;
    const message = { type: "view", view: { ...this.view }, id: ++this.viewId };
    if (size) message.size = this.size;
    if (size || style) message.style = this.style();
    this.worker.postMessage(message);
  }

  move(view, { rest = REST_MS } = {}) {
    this.view = clamp(view, this.bounds, this.size);
    this.place();
    this.on.view?.(false);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.repaint(), rest);
  }

  /** Shift and scale the painted picture to where it belongs in the view of now. */
  place() {
    const { view, paintedView: painted, size } = this;
    if (!painted) return;
    const zoom = view.scale / painted.scale;
    const dx = (painted.x - view.x) * view.scale + (size.width / 2) * (1 - zoom);
    const dy = (view.y - painted.y) * view.scale + (size.height / 2) * (1 - zoom);
    const still = Math.abs(dx) < 0.01 && Math.abs(dy) < 0.01 && zoom === 1;
    this.canvas.style.transform = still ? "" : `translate(${dx}px, ${dy}px) scale(${zoom})`;
  }

  homeView() {
    const { meta } = this.network;
    return home(median(this.network.points), this.bounds, this.size, meta.schematic);
  }

  home() {
    this.move(this.homeView(), { rest: 0 });
  }

  zoom(factor, px = this.size.width / 2, py = this.size.height / 2) {
    this.move(zoomAt(this.view, this.size, px, py, factor, this.bounds));
  }

  /** Bring a place into view; `bounds` in metres zooms to it. */
  goTo(x, y, scale = this.view.scale) {
    this.move({ x, y, scale: Math.max(scale, this.view.scale) }, { rest: 0 });
  }

  goToBounds(bounds) {
    this.move(fit(bounds, this.size, 0.18), { rest: 0 });
  }

  isInView(x, y, marginPx = 30) {
    const { view, size } = this;
    return (
      Math.abs(x - view.x) * view.scale < size.width / 2 - marginPx &&
      Math.abs(y - view.y) * view.scale < size.height / 2 - marginPx
    );
  }

  // ---- pointer and keys ---------------------------------------------------------------------------------------

  /** Factor on the widths of roads in this view. */
  grown() {
    return growth(this.view.scale, this.unit, this.network.meta.schematic);
  }

  /** Metres that segment `i` is shifted to its right, as it is drawn now. */
  shiftOf(i) {
    const grown = this.grown();
    const wide = width(this.network.roadClass[i], this.classes[i], grown);
    return shift(this.grid.twin[i], wide, grown) / this.view.scale;
  }

  at(px, py) {
    const [x, y] = toWorld(this.view, this.size, px, py);
    const reach = (REACH_PX * this.unit) / this.view.scale;
    const found = this.grid.nearest(x, y, reach, (i) => this.shiftOf(i));
    const { roadClass } = this.network;
    return found >= 0 && shown(roadClass[found], this.classes[found], this.view.scale) ? found : -1;
  }

  listen() {
    const { surface } = this;
    this.pointers = new Map();
    surface.addEventListener("pointerdown", (event) => this.pressed(event));
    surface.addEventListener("pointermove", (event) => this.pointed(event));
    for (const name of ["pointerup", "pointercancel"]) surface.addEventListener(name, (event) => this.released(event));
    surface.addEventListener("pointerleave", () => this.on.hover?.(-1));
    surface.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    surface.addEventListener("dblclick", (event) => this.zoom(ZOOM_STEP * 1.3, ...this.local(event)));
    surface.addEventListener("keydown", (event) => this.typed(event));
  }

  local(event) {
    const edge = this.surface.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  }

  pressed(event) {
    if (event.target.closest("button, input, a")) return;
    this.surface.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.local(event));
    this.moved = 0;
  }

  pointed(event) {
    const [px, py] = this.local(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.on.hover?.(this.at(px, py), px, py);
    const [dx, dy] = [px - before[0], py - before[1]];
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.pointers.size === 2) this.pinched(event.pointerId, px, py);
    else if (this.moved > 4) {
      const { view } = this;
      setAttribute(this.surface, "data-moving", "");
      this.on.hover?.(-1);
      this.move({ ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale });
    }
    this.pointers.set(event.pointerId, [px, py]);
    return undefined;
  }

  pinched(id, px, py) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, place]) => place);
    const before = this.pointers.get(id);
    const spread = (x, y) => Math.hypot(x - other[0], y - other[1]) || 1;
    this.zoom(spread(px, py) / spread(...before), (px + other[0]) / 2, (py + other[1]) / 2);
  }

  released(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    setAttribute(this.surface, "data-moving", null);
    if (event.type === "pointerup" && this.moved <= 4) this.on.pick?.(this.at(...this.local(event)));
  }

  wheeled(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp(Math.max(-1, Math.min(1, (-event.deltaY * lines) / 400))), ...this.local(event));
  }

  typed(event) {
    const { view } = this;
    const step = KEY_STEP_PX / view.scale;
    const actions = {
      ArrowLeft: () => this.move({ ...view, x: view.x - step }),
      ArrowRight: () => this.move({ ...view, x: view.x + step }),
      ArrowUp: () => this.move({ ...view, y: view.y + step }),
      ArrowDown: () => this.move({ ...view, y: view.y - step }),
      "+": () => this.zoom(ZOOM_STEP),
      "=": () => this.zoom(ZOOM_STEP),
      "-": () => this.zoom(1 / ZOOM_STEP),
      0: () => this.home(),
      Enter: () => this.on.pick?.(this.at(this.size.width / 2, this.size.height / 2)),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.surface || !actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }
}
