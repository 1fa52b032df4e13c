// Draws the segments on a canvas: classes 0..5 by segment in, pixels out. Runs in a worker; knows no network traffic.
//
// After a tick only the tiles that a changed segment touches are cleared and drawn again, with every segment that
// crosses them and in full order, so that edges never build up and the worst stays on top.

import { boxes, rightHand, twins } from "./network.js";
import { growth, shift, shown, width } from "./widths.js";

const CLASS_ORDER = [5, 7, 4, 3, 6, 2, 1, 0]; // minor roads first
const CLASSES = 8;
const LEVELS = 6;
const TILE = 24;
const FULL_SHARE = 0.4; // of the tiles, or of the segments: with more of them to repaint, all is cheaper
const NEAR_PX = 0.8; // points closer than this on the screen are one
const ROUND_FROM_PX = 2.4;
const SOLID_UNKNOWN = 1500; // dashes of more segments than this cost too much

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
    this.tiles = new Int16Array(4 * network.n);
    this.visible = [];
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

  /** Look from elsewhere: which segments are in view, and which tiles each of them may touch at its widest. */
  setView(view) {
    const { box, network, size, columns, rows } = this;
    this.view = view;
    this.grown = growth(view.scale, this.style.unit, network.meta.schematic);
    this.visible = [];
    const tile = (px, count) => Math.min(count - 1, Math.max(0, Math.floor(px / TILE)));
    for (let i = 0; i < network.n; i++) {
      const room = 2 + 2 * width(network.roadClass[i], LEVELS - 1, this.grown);
      const left = (box[4 * i] - view.x) * view.scale + size.width / 2 - room;
      const top = (view.y - box[4 * i + 3]) * view.scale + size.height / 2 - room;
      const right = (box[4 * i + 2] - view.x) * view.scale + size.width / 2 + room;
      const bottom = (view.y - box[4 * i + 1]) * view.scale + size.height / 2 + room;
      if (right < 0 || bottom < 0 || left > size.width || top > size.height) continue;
      this.visible.push(i);
      this.tiles[4 * i] = tile(left, columns);
      this.tiles[4 * i + 1] = tile(top, rows);
      this.tiles[4 * i + 2] = tile(right, columns);
      this.tiles[4 * i + 3] = tile(bottom, rows);
    }
  }

  paintAll() {
    const { context, size, dpr, visible } = this;
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.clearRect(0, 0, size.width, size.height);
    this.drawn.set(this.classes);
    this.stroke(visible);
    return visible.length;
  }

  /** Repaint what differs from what is drawn; returns the number of segments drawn. */
  paintChanges() {
    const { classes, drawn, visible } = this;
    const changed = visible.filter((i) => classes[i] !== drawn[i]);
    const tiles = this.markTiles(changed);
    if (tiles > FULL_SHARE * this.dirty.length) return this.paintAll();
    drawn.set(classes);
    if (!tiles) return 0;
    const touched = visible.filter((i) => this.touches(i));
    if (touched.length > FULL_SHARE * visible.length) return this.paintAll();
    const { context, dpr } = this;
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.save();
    this.clipToTiles();
    context.clearRect(0, 0, this.size.width, this.size.height);
    this.stroke(touched);
    context.restore();
    return touched.length;
  }

  markTiles(changed) {
    const { tiles, dirty, columns } = this;
    dirty.fill(0);
    let count = 0;
    for (const i of changed)
      for (let y = tiles[4 * i + 1]; y <= tiles[4 * i + 3]; y++)
        for (let x = tiles[4 * i]; x <= tiles[4 * i + 2]; x++) {
          count += 1 - dirty[y * columns + x];
          dirty[y * columns + x] = 1;
        }
    return count;
  }

  touches(i) {
    const { tiles, dirty, columns } = this;
    for (let y = tiles[4 * i + 1]; y <= tiles[4 * i + 3]; y++)
      for (let x = tiles[4 * i]; x <= tiles[4 * i + 2]; x++) if (dirty[y * columns + x]) return true;
    return false;
  }

  /** Clip to the dirty tiles; those beside one another in a row are one rectangle. */
  clipToTiles() {
    const { context, dirty, columns, rows } = this;
    context.beginPath();
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        if (!dirty[y * columns + x]) continue;
        const from = x;
        while (x + 1 < columns && dirty[y * columns + x + 1]) x += 1;
        context.rect(from * TILE, y * TILE, (x - from + 1) * TILE, TILE);
      }
    context.clip();
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
