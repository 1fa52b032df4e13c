// The road network as the map needs it: network.bin in; typed arrays, sides, boxes, chains and a grid out. No drawing.

const MAGIC = "CBN1";

/** Read network.bin (the contract is in dashboard/geometry.py). */
export function parseNetwork(buffer) {
  const bytes = new Uint8Array(buffer);
  const decoder = new TextDecoder();
  if (decoder.decode(bytes.subarray(0, 4)) !== MAGIC) throw new Error(MAGIC);
  const length = new DataView(buffer).getUint32(4, true);
  const meta = JSON.parse(decoder.decode(bytes.subarray(8, 8 + length)).replace(/\0+$/, ""));
  let at = 8 + length;
  const take = (Type, count) => {
    at = (at + 3) & ~3;
    const array = new Type(buffer, at, count);
    at += count * Type.BYTES_PER_ELEMENT;
    return array;
  };
  const n = meta.n;
  return {
    meta,
    n,
    start: take(Uint32Array, n + 1),
    points: take(Float32Array, 2 * meta.points),
    roadClass: take(Uint8Array, n),
    lanes: take(Uint8Array, n),
    lengthKm: take(Float32Array, n),
    freeFlowKmh: take(Float32Array, n),
    road: take(Uint32Array, n),
    district: take(Uint16Array, n),
    hasDetector: take(Uint8Array, n),
  };
}

/** Unit vector to the right of driving at each point, longer at bends so that a shifted line keeps its distance. */
export function rightHand(network) {
  const { start, points, n } = network;
  const out = new Float32Array(points.length);
  for (let i = 0; i < n; i++) {
    let px = 0;
    let py = 0;
    for (let k = start[i]; k < start[i + 1]; k++) {
      let [qx, qy] = [px, py];
      if (k + 1 < start[i + 1]) {
        const dx = points[2 * k + 2] - points[2 * k];
        const dy = points[2 * k + 3] - points[2 * k + 1];
        const d = Math.hypot(dx, dy);
        if (d > 0) [qx, qy] = [dy / d, -dx / d];
      }
      if (k === start[i]) [px, py] = [qx, qy];
      const along = Math.max(0.5, 1 + px * qx + py * qy);
      out[2 * k] = (px + qx) / along;
      out[2 * k + 1] = (py + qy) / along;
      [px, py] = [qx, qy];
    }
  }
  return out;
}

const spot = (points, k) => `${Math.round(points[2 * k])},${Math.round(points[2 * k + 1])}`;

/** The segment of the other direction on the same road, -1 where there is none. */
export function twins(network) {
  const { start, points, lengthKm, n } = network;
  const byEnds = new Map();
  for (let i = 0; i < n; i++) {
    const key = `${spot(points, start[i])}|${spot(points, start[i + 1] - 1)}`;
    if (!byEnds.has(key)) byEnds.set(key, []);
    byEnds.get(key).push(i);
  }
  const out = new Int32Array(n).fill(-1);
  for (let i = 0; i < n; i++) {
    const back = byEnds.get(`${spot(points, start[i + 1] - 1)}|${spot(points, start[i])}`) ?? [];
    const alike = back.find((j) => j !== i && Math.abs(lengthKm[j] - lengthKm[i]) <= 0.05 * lengthKm[i] + 0.005);
    if (alike !== undefined) out[i] = alike;
  }
  return out;
}

/** Least x, least y, greatest x, greatest y of each segment. */
export function boxes(network) {
  const { start, points, n } = network;
  const out = new Float32Array(4 * n);
  for (let i = 0; i < n; i++) {
    let [a, b, c, d] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let k = start[i]; k < start[i + 1]; k++) {
      a = Math.min(a, points[2 * k]);
      b = Math.min(b, points[2 * k + 1]);
      c = Math.max(c, points[2 * k]);
      d = Math.max(d, points[2 * k + 1]);
    }
    out.set([a, b, c, d], 4 * i);
  }
  return out;
}

/** Runs of segments of one named road in one direction, as lists of points; longest first. */
export function chains(network) {
  const { start, points, road, meta, n, lengthKm, roadClass } = network;
  const follow = new Map();
  for (let i = 0; i < n; i++) follow.set(`${road[i]}@${spot(points, start[i])}`, i);
  const next = (i) => follow.get(`${road[i]}@${spot(points, start[i + 1] - 1)}`);
  const entered = new Set();
  for (let i = 0; i < n; i++) if (next(i) !== undefined) entered.add(next(i));
  const used = new Uint8Array(n);
  const out = [];
  const walk = (first) => {
    const chain = { name: meta.roads[road[first]], roadClass: roadClass[first], km: 0, xy: [] };
    for (let i = first; i !== undefined && !used[i]; i = next(i)) {
      used[i] = 1;
      chain.km += lengthKm[i];
      for (let k = start[i]; k < start[i + 1]; k++) chain.xy.push(points[2 * k], points[2 * k + 1]);
    }
    out.push(chain);
  };
  for (let i = 0; i < n; i++) if (meta.roads[road[i]] && !entered.has(i) && !used[i]) walk(i);
  for (let i = 0; i < n; i++) if (meta.roads[road[i]] && !used[i]) walk(i);
  return out.sort((a, b) => b.km - a.km);
}

const CELL_M = 150;

/** A grid over the segments, to find the one under the pointer. */
export class Grid {
  constructor(network) {
    this.network = network;
    this.box = boxes(network);
    this.right = rightHand(network);
    this.twin = twins(network);
    this.cells = new Map();
    for (let i = 0; i < network.n; i++) this.add(i);
  }

  add(i) {
    const { start, points } = this.network;
    for (let k = start[i]; k + 1 < start[i + 1]; k++) {
      const [x0, y0, x1, y1] = points.subarray(2 * k, 2 * k + 4);
      for (let cx = Math.floor(Math.min(x0, x1) / CELL_M); cx <= Math.floor(Math.max(x0, x1) / CELL_M); cx++)
        for (let cy = Math.floor(Math.min(y0, y1) / CELL_M); cy <= Math.floor(Math.max(y0, y1) / CELL_M); cy++) {
          const key = cx * 65536 + cy;
          const list = this.cells.get(key);
          if (!list) this.cells.set(key, [i]);
          else if (list[list.length - 1] !== i) list.push(i);
        }
    }
  }

  /** The segment nearest to a place within `reach` metres, lines shifted right by `shift(i)` metres; -1 if none. */
  nearest(x, y, reach, shift) {
    const seen = new Set();
    let best = -1;
    let least = reach;
    for (let cx = Math.floor((x - reach) / CELL_M); cx <= Math.floor((x + reach) / CELL_M); cx++)
      for (let cy = Math.floor((y - reach) / CELL_M); cy <= Math.floor((y + reach) / CELL_M); cy++)
        for (const i of this.cells.get(cx * 65536 + cy) ?? []) {
          if (seen.has(i)) continue;
          seen.add(i);
          const d = this.distance(i, x, y, shift(i));
          if (d < least) [best, least] = [i, d];
        }
    return best;
  }

  distance(i, x, y, shift) {
    const { start, points } = this.network;
    const { right } = this;
    let least = Infinity;
    for (let k = start[i]; k + 1 < start[i + 1]; k++) {
      const ax = points[2 * k] + right[2 * k] * shift;
      const ay = points[2 * k + 1] + right[2 * k + 1] * shift;
      const dx = points[2 * k + 2] + right[2 * k + 2] * shift - ax;
      const dy = points[2 * k + 3] + right[2 * k + 3] * shift - ay;
      const u = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
      least = Math.min(least, Math.hypot(ax + u * dx - x, ay + u * dy - y));
    }
    return least;
  }

  /** Halfway along a segment, metres. */
  middle(i) {
    const { start, points } = this.network;
    let left = 0;
    for (let k = start[i]; k + 1 < start[i + 1]; k++)
      left += Math.hypot(points[2 * k + 2] - points[2 * k], points[2 * k + 3] - points[2 * k + 1]) / 2;
    for (let k = start[i]; k + 1 < start[i + 1]; k++) {
      const [dx, dy] = [points[2 * k + 2] - points[2 * k], points[2 * k + 3] - points[2 * k + 1]];
      const d = Math.hypot(dx, dy);
      if (d >= left && d > 0) return [points[2 * k] + (dx * left) / d, points[2 * k + 1] + (dy * left) / d];
      left -= d;
    }
    return [points[2 * start[i]], points[2 * start[i] + 1]];
  }
}
