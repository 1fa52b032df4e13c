// The state that a link holds: segment, layer, place and scale of the map, and the switches. Read once, written as it changes.

import { fromDegrees, toDegrees } from "./viewport.js";

const params = () => new URLSearchParams(location.search);

export function read() {
  const p = params();
  const int = (name) => (/^\d+$/.test(p.get(name) ?? "") ? Number(p.get(name)) : null);
  const float = (name) => (Number.isFinite(parseFloat(p.get(name))) ? parseFloat(p.get(name)) : null);
  return {
    segment: int("segment"),
    layer: int("layer") ?? 0,
    run: p.get("run") ?? "",
    wall: p.get("wall") === "1",
    theme: ["dark", "light"].includes(p.get("theme")) ? p.get("theme") : null,
    palette: ["standard", "classic"].includes(p.get("palette")) ? p.get("palette") : null,
    x: float("x"),
    y: float("y"),
    z: float("z"),
  };
}

/** The view of a link, null where it names none. `z` is the logarithm to base 2 of pixels a kilometre. */
export function viewOf(state, meta) {
  if (state.x === null || state.y === null || state.z === null) return null;
  const [x, y] = fromDegrees(meta, state.x, state.y);
  return { x, y, scale: 2 ** state.z / 1000 };
}

export function viewParams(view, meta) {
  const [x, y] = toDegrees(meta, view.x, view.y);
  return { x: x.toFixed(5), y: y.toFixed(5), z: Math.log2(view.scale * 1000).toFixed(2) };
}

/** Write some of the state; null takes a name away. Nothing is added to the browser's history. */
export function write(values) {
  const p = params();
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") p.delete(name);
    else p.set(name, value);
  }
  const text = p.toString();
  if (text !== params().toString()) history.replaceState(null, "", text ? `?${text}` : location.pathname);
}
