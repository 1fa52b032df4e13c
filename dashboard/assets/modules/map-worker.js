// The map's worker: owns the canvas and the painter, so that drawing never holds up the page.

import { parseNetwork } from "./network.js";
import { Painter } from "./painter.js";

const FULL_EVERY = 20; // ticks

let painter = null;
let pending = null; // the view to paint next
let scheduled = false;
let ticks = 0;
let flushing = false;

const handlers = {
  init({ canvas, network, style }) {
    painter = new Painter(canvas, parseNetwork(network));
    painter.style = style;
  },

  /** A new size or style comes with the view, so that it is painted once. */
  view(message) {
    if (message.style) painter.style = message.style;
    if (message.size) painter.pendingSize = message.size;
    pending = message;
    if (!scheduled) requestAnimationFrame(paintView);
    scheduled = true;
  },

  classes({ classes, received }) {
    painter.classes.set(classes);
    paintTick(received, true);
  },

  /** For benchmarks: tell of a tick only once its pixels are there, not when they are merely ordered. */
  flush({ on }) {
    flushing = on;
  },

  changes({ index, values, received }) {
    for (let k = 0; k < index.length; k++) painter.classes[index[k]] = values[k];
    paintTick(received, ++ticks % FULL_EVERY === 0);
  },
};

function paintView() {
  scheduled = false;
  const began = performance.now();
  if (painter.pendingSize) {
    const { width, height, dpr } = painter.pendingSize;
    painter.resize(width, height, dpr);
    painter.pendingSize = null;
  }
  painter.setView(pending.view);
  const drawn = painter.paintAll();
  postMessage({ type: "view", id: pending.id, view: pending.view, drawn, ms: performance.now() - began });
}

function paintTick(received, full) {
  if (!painter.view || scheduled) return; // the view that is about to be painted shows it all
  const began = performance.now();
  const drawn = full ? painter.paintAll() : painter.paintChanges();
  if (flushing) painter.context.getImageData(0, 0, 1, 1);
  postMessage({ type: "tick", received, drawn, full, ms: performance.now() - began });
}

onmessage = (event) => handlers[event.data.type](event.data);
