// What the map shows: byte layers in, drawing classes 0..5 out. Which layer, how its bytes are classed, its texts' keys.

export const LEVEL = 0;
export const TYPICAL = 4;
export const SPEED = 5;
export const HORIZONS = [
  { minutes: 0, layer: 0 },
  { minutes: 15, layer: 1 },
  { minutes: 30, layer: 2 },
  { minutes: 60, layer: 3 },
];
export const MODES = ["level", "typical", "speed"];

const SPEED_FROM_KMH = [70, 50, 35, 20, 1]; // lower edges of drawing classes 1..5
// much slower, slower, a bit slower, as usual, faster
const AGAINST_TYPICAL = [0, 5, 4, 3, 1, 2];

const TABLES = {
  level: Uint8Array.from({ length: 256 }, (_, value) => (value <= 5 ? value : 0)),
  typical: Uint8Array.from({ length: 256 }, (_, value) => AGAINST_TYPICAL[value] ?? 0),
  speed: Uint8Array.from({ length: 256 }, (_, value) => 1 + SPEED_FROM_KMH.findIndex((edge) => value >= edge)),
};

/** The mode of a layer: levels and their forecasts are one. */
export const modeOf = (layer) => (layer === TYPICAL ? "typical" : layer === SPEED ? "speed" : "level");

/** Drawing class of each byte value of a layer. */
export const table = (layer) => TABLES[modeOf(layer)];

/** Drawing classes in the order of the legend, with the key of each one's text. */
export function legendRows(layer) {
  const mode = modeOf(layer);
  if (mode !== "typical") return [1, 2, 3, 4, 5, 0].map((value) => ({ drawn: value, key: `${mode}.${value}` }));
  return [5, 4, 3, 2, 1, 0].map((value) => ({ drawn: AGAINST_TYPICAL[value], key: `typical.${value}` }));
}

/** Kilometres of directed segments by drawing class. */
export function kilometres(classes, lengthKm) {
  const km = new Float64Array(6);
  for (let i = 0; i < classes.length; i++) km[classes[i]] += lengthKm[i];
  return km;
}
