// Draws the segments on a canvas: classes 0..5 by segment in, pixels out. Runs in a worker; knows no network traffic.
//
// After a tick only the tiles that a changed segment touches are cleared and drawn again, with every segment that
// crosses them and in full order, so that edges never build up and the worst stays on top.

import { boxes, rightHand, twins } from "./network.js";
import { growth, shift, shown, width } from "./widths.js";

const CLASS_ORDER = [5, 7, 4, 3, 6, 2, 1, 0]; // minor roads first
const CLASSES = 8;
const LEVELS = 6;
const TILE = 48;
const FULL_SHARE = 0.55; // with more dirty tiles than this a full repaint is cheaper
const NEAR_PX = 0.8; // points closer than this on the screen are one
const ROUND_FROM_PX = 2.4;
const SOLID_UNKNOWN = 4000; // dashes of more segments than this cost too much

export class Painter {
  constructor(canvas, network) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: true });
    this.network = network;
    this.box = boxes(network);
    this.right = rightHand(network);
    this.twin = twins(network);
    this.classes = new Uint8Array(network.n);
    this.drawn = new Uint8Array(network.n);
    this.rank = new Uint8Array(CLASSES);
    CLASS_ORDER.forEach((roadClass, place) => (this.rank[roadClass] = place));
    this.order = new Uint32Array(network.n);
  }

  resize(width_, height, dpr) {
    this.size = { width: width_, height };
    this.dpr = dpr;
    this.canvas.width = Math.max(1, Math.round(width_ * dpr));
    this.canvas.height = Math.max(1, Math.round(height * dpr));
    this.columns = Math.ceil(width_ / TILE) + 1;
    this.rows = Math.ceil(height / TILE) + 1;
    this.dirty = new Uint8Array(this.columns * this.rows);
  }

  setView(view) {
    this.view = view;
    this.grown = growth(view.scale, this.style.unit);
  }

  /** Edges of segment `i` on the screen, with room for its widest line. */
  edges(i) {
    const { box, view, size } = this;
    const room = 2 + 2 * width(this.network.roadClass[i], 5, this.grown);
    return [
      (box[4 * i] - view.x) * view.scale + size.width / 2 - room,
      (view.y - box[4 * i + 3]) * view.scale + size.height / 2 - room,
      (box[4 * i + 2] - view.x) * view.scale + size.width / 2 + room,
      (view.y - box[4 * i + 1]) * view.scale + size.height / 2 + room,
    ];
  }

  paintAll() {
    const { context, size, dpr } = this;
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    const visible = [];
    for (let i = 0; i < this.network.n; i++) {
      const [a, b, c, d] = this.edges(i);
      if (c >= 0 && d >= 0 && a <= size.width && b <= size.height) visible.push(i);
    }
    this.visible = visible;
    this.drawn.set(this.classes);
    this.stroke(visible);
    return visible.length;
  }

  /** Repaint what differs from what is drawn; returns the number of segments drawn. */
  paintChanges() {
    const { classes, drawn, dirty, columns, rows, size } = this;
    dirty.fill(0);
    let tiles = 0;
    for (const i of this.visible) {
      if (classes[i] === drawn[i]) continue;
      const [a, b, c, d] = this.edges(i);
      for (let y = Math.max(0, Math.floor(b / TILE)); y <= Math.min(rows - 1, Math.floor(d / TILE)); y++)
        for (let x = Math.max(0, Math.floor(a / TILE)); x <= Math.min(columns - 1, Math.floor(c / TILE)); x++)
          if (!dirty[y * columns + x]) {
            dirty[y * columns + x] = 1;
            tiles += 1;
          }
    }
    if (!tiles) {
      drawn.set(classes);
      return 0;
    }
    if (tiles > FULL_SHARE * dirty.length) return this.paintAll();
    drawn.set(classes);
    const touched = this.visible.filter((i) => this.touches(i));
    const { context } = this;
    context.setTransform(this.dpr, 0, 0, this.dpr, 0, 0);
    context.save();
    context.beginPath();
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        if (!dirty[y * columns + x]) continue;
        let end = x;
        while (end + 1 < columns && dirty[y * columns + end + 1]) end += 1;
        context.rect(x * TILE, y * TILE, (end - x + 1) * TILE, TILE);
        x = end;
      }
    context.clip();
    context.clearRect(0, 0, size.width, size.height);
    this.stroke(touched);
    context.restore();
    return touched.length;
  }

  touches(i) {
    const { dirty, columns, rows } = this;
    const [a, b, c, d] = this.edges(i);
    for (let y = Math.max(0, Math.floor(b / TILE)); y <= Math.min(rows - 1, Math.floor(d / TILE)); y++)
      for (let x = Math.max(0, Math.floor(a / TILE)); x <= Math.min(columns - 1, Math.floor(c / TILE)); x++)
        if (dirty[y * columns + x]) return true;
    return false;
  }

  /** Stroke segments: worst last, and within a level the greater road last; one path for each level and class. */
  stroke(segments) {
    const { classes, rank, network, order } = this;
    const starts = new Uint32Array(LEVELS * CLASSES + 1);
    const bucket = (i) => classes[i] * CLASSES + rank[network.roadClass[i]];
    for (const i of segments) starts[bucket(i) + 1] += 1;
    const unknown = starts.slice(1, CLASSES + 1).reduce((sum, count) => sum + count, 0);
    for (let k = 0; k < LEVELS * CLASSES; k++) starts[k + 1] += starts[k];
    const at = starts.slice(0, -1);
    for (const i of segments) order[at[bucket(i)]++] = i;
    for (let k = 0; k < LEVELS * CLASSES; k++)
      if (starts[k + 1] > starts[k]) this.strokeBucket(k, starts[k], starts[k + 1], unknown <= SOLID_UNKNOWN);
  }

  strokeBucket(k, from, to, dashed) {
    const { context, style, view, grown, order } = this;
    const level = Math.floor(k / CLASSES);
    const roadClass = CLASS_ORDER[k % CLASSES];
    if (!shown(roadClass, level, view.scale)) return;
    const wide = width(roadClass, level, grown);
    context.beginPath();
    for (let place = from; place < to; place++) this.trace(order[place], wide);
    context.strokeStyle = style.colors[level];
    context.lineWidth = wide;
    context.lineJoin = "round";
    context.lineCap = level > 0 && wide >= ROUND_FROM_PX ? "round" : "butt";
    context.setLineDash(level === 0 && dashed ? [3.2 * style.unit, 2.6 * style.unit] : []);
    context.stroke();
  }

  trace(i, wide) {
    const { context, view, size, right } = this;
    const { start, points } = this.network;
    const apart = shift(this.twin[i], wide, this.grown);
    const left = size.width / 2 - view.x * view.scale;
    const top = size.height / 2 + view.y * view.scale;
    const last = start[i + 1] - 1;
    let [px, py] = [0, 0];
    for (let k = start[i]; k <= last; k++) {
      const x = points[2 * k] * view.scale + left + right[2 * k] * apart;
      const y = top - points[2 * k + 1] * view.scale - right[2 * k + 1] * apart;
      if (k === start[i]) context.moveTo(x, y);
      else if (k < last && Math.abs(x - px) < NEAR_PX && Math.abs(y - py) < NEAR_PX) continue;
      else context.lineTo(x, y);
      [px, py] = [x, y];
    }
  }
}
