// How wide a road is drawn, and how far its directions stand apart: shared by the painter and the pointer's search.

// motorway, trunk, primary, secondary, tertiary, residential, link, other: pixels where a city fills the map
const BY_CLASS = [3.9, 3.3, 2.7, 2.2, 1.6, 1.2, 1.9, 1.3];
// not known, then levels 1..5: what is bad is wide as well as warm
const BY_LEVEL = [0.75, 1, 1.08, 1.3, 1.55, 1.8];
const CITY_SCALE = 0.13; // pixels a metre at which the widths above hold
const SCHEMATIC_LEAST = 2.4; // a line without a map has the screen for itself
const APART_PX = 0.4;
const MINOR_FROM_SCALE = [0, 0, 0, 0, 0.02, 0.045, 0.02, 0.045];

/** Factor on all widths at a scale; `unit` is the size of the screen's letters against 16 px. */
export function growth(scale, unit, schematic) {
  return unit * Math.min(5, Math.max(schematic ? SCHEMATIC_LEAST : 0.55, (scale / CITY_SCALE) ** 0.55));
}

export const width = (roadClass, level, grown) => BY_CLASS[roadClass] * BY_LEVEL[level] * grown;

/** Pixels that a direction is shifted to the right of driving; nothing where there is no other direction. */
export const shift = (twin, wide, grown) => (twin < 0 ? 0 : wide / 2 + APART_PX * Math.min(1.5, grown));

/** Whether a road is drawn at this scale while it is well: seen from far away, only what matters is. */
export const shown = (roadClass, level, scale) => level >= 3 || scale >= MINOR_FROM_SCALE[roadClass];
