// Where the map looks: metres to pixels and back. Pure; a view is {x, y, scale}: its middle in metres, pixels a metre.

const CLOSEST = 4;

export const toScreen = (view, size, x, y) => [
  (x - view.x) * view.scale + size.width / 2,
  (view.y - y) * view.scale + size.height / 2,
];

export const toWorld = (view, size, px, py) => [
  view.x + (px - size.width / 2) / view.scale,
  view.y - (py - size.height / 2) / view.scale,
];

/** The view that shows a box with a margin. */
export function fit(bounds, size, margin = 0.04) {
  const [a, b, c, d] = bounds;
  const width = Math.max(c - a, 200);
  const height = Math.max(d - b, 200);
  const scale = Math.min(size.width / width, size.height / height) * (1 - 2 * margin);
  return { x: (a + c) / 2, y: (b + d) / 2, scale: Math.min(scale, CLOSEST) };
}

const FILL = 1.55;

/**
 * The view that a city opens with: round its middle, and nearer than all of it where that would leave much of the map
 * empty.
 */
export function home(middle, bounds, size, schematic) {
  const whole = fit(bounds, size);
  if (schematic) return whole;
  const cover = Math.max(size.width / (bounds[2] - bounds[0]), size.height / (bounds[3] - bounds[1]));
  const scale = Math.min(Math.sqrt(whole.scale * cover), FILL * whole.scale);
  return { x: (middle[0] + whole.x) / 2, y: (middle[1] + whole.y) / 2, scale };
}

/** Keep the view over the city and within sensible scales. */
export function clamp(view, bounds, size) {
  const least = fit(bounds, size).scale / 2;
  const within = (value, low, high) => Math.min(Math.max(value, Math.min(low, high)), Math.max(low, high));
  return {
    x: within(view.x, bounds[0], bounds[2]),
    y: within(view.y, bounds[1], bounds[3]),
    scale: within(view.scale, least, CLOSEST),
  };
}

/** Scale by `factor` so that what is under (px, py) stays there. */
export function zoomAt(view, size, px, py, factor, bounds) {
  const scale = clamp({ ...view, scale: view.scale * factor }, bounds, size).scale;
  const [x, y] = toWorld(view, size, px, py);
  return clamp(
    { x: x - (px - size.width / 2) / scale, y: y + (py - size.height / 2) / scale, scale },
    bounds,
    size,
  );
}

const M_PER_DEGREE = [111_320, 110_574];

/** Metres of the network's plane to degrees, for links that outlive an import; plain metres where there is no map. */
export function toDegrees(meta, x, y) {
  if (meta.schematic) return [x, y];
  const [lon, lat] = meta.origin;
  return [lon + x / (Math.cos((lat * Math.PI) / 180) * M_PER_DEGREE[0]), lat + y / M_PER_DEGREE[1]];
}

export function fromDegrees(meta, lon, lat) {
  if (meta.schematic) return [lon, lat];
  const [lon0, lat0] = meta.origin;
  return [(lon - lon0) * Math.cos((lat0 * Math.PI) / 180) * M_PER_DEGREE[0], (lat - lat0) * M_PER_DEGREE[1]];
}
