// The live socket: text messages by kind and layers of bytes out. It comes back by itself and catches up what it missed.

const SNAPSHOT = 0;
const SKIP = 255;
const HEADER_BYTES = 8;
const LONGEST_WAIT_MS = 15_000;
const SILENT_MS = 10_000; // the server speaks at least every 2 s

/** Apply one delta payload to `values`; returns the indices that it set. */
export function applyDelta(values, payload) {
  const changed = [];
  let segment = 0;
  for (let at = 0; at < payload.length; ) {
    const gap = payload[at++];
    segment += gap;
    if (gap === SKIP) continue;
    if (at >= payload.length || segment >= values.length) return null;
    values[segment] = payload[at++];
    changed.push(segment++);
  }
  return changed;
}

export class Live {
  /** `address` is the socket's; `on` holds a handler for each kind of message, `layer` and `link`. */
  constructor(address, on) {
    this.address = address;
    this.on = on;
    this.layers = new Map(); // layer -> Uint8Array
    this.versions = new Map();
    this.waiting = new Set(); // layers whose snapshot was asked for
    this.last = new Map(); // kind -> newest message, to draw again in another language
    this.attempts = 0;
    this.lostAt = null;
    this.heardAt = performance.now();
    this.bytes = 0;
    setInterval(() => this.watch(), 2000);
    this.connect();
  }

  connect() {
    const socket = new WebSocket(this.address);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    this.heardAt = performance.now();
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => socket === this.socket && this.retry();
  }

  receive(data) {
    this.heardAt = performance.now();
    if (this.lostAt !== null || this.attempts) {
      this.lostAt = null;
      this.attempts = 0;
      this.on.link?.(null);
    }
    if (typeof data !== "string") return this.frame(data);
    const message = JSON.parse(data);
    this.last.set(message.kind, message);
    if (message.kind === "hello") this.versions.clear();
    return this.on[message.kind]?.(message);
  }

  frame(buffer) {
    const received = performance.now();
    this.bytes = buffer.byteLength;
    const view = new DataView(buffer);
    const [kind, layer, version] = [view.getUint8(0), view.getUint8(1), view.getUint32(4, true)];
    const payload = new Uint8Array(buffer, HEADER_BYTES);
    if (kind === SNAPSHOT) {
      this.layers.set(layer, payload.slice());
      this.versions.set(layer, version);
      this.waiting.delete(layer);
      return this.on.layer?.(layer, null, received);
    }
    if (this.waiting.has(layer)) return undefined;
    const expected = (this.versions.get(layer) ?? -1) + 1;
    const changed = version === expected && this.layers.has(layer) ? applyDelta(this.layers.get(layer), payload) : null;
    if (changed === null) return this.resync(layer);
    this.versions.set(layer, version);
    return this.on.layer?.(layer, changed, received);
  }

  resync(layer) {
    this.waiting.add(layer);
    this.socket.send(JSON.stringify({ resync: layer }));
  }

  retry() {
    if (this.lostAt === null) {
      this.lostAt = Date.now();
      this.on.link?.(this.lostAt);
    }
    this.waiting.clear();
    const wait = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.attempts++) * (0.5 + Math.random() / 2);
    setTimeout(() => this.connect(), wait);
  }

  /** A socket that says nothing is as good as closed. */
  watch() {
    if (this.socket.readyState !== WebSocket.OPEN || performance.now() - this.heardAt < SILENT_MS) return;
    const dead = this.socket;
    this.socket = null;
    dead.onmessage = null;
    dead.close();
    this.retry();
  }
}
