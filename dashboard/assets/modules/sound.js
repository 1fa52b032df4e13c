// One short sound for new alerts. A browser lets a page sound only after a click; whether it may is shown by a light.

const TONES = [
  [880, 0],
  [1174.7, 0.13],
];
const STORED = "citybrain.sound";

export class Sound {
  constructor(onChange) {
    this.onChange = onChange;
    this.wanted = localStorage.getItem(STORED) === "on";
    this.context = null;
    if (this.wanted) addEventListener("pointerdown", () => this.arm(), { once: true });
    onChange(false);
  }

  get armed() {
    return this.wanted && this.context?.state === "running";
  }

  async arm() {
    if (!this.wanted) return;
    this.context ??= new AudioContext();
    await this.context.resume();
    this.onChange(this.armed);
  }

  async toggle() {
    this.wanted = !this.armed;
    localStorage.setItem(STORED, this.wanted ? "on" : "off");
    await this.arm();
    this.onChange(this.armed);
    if (this.armed) this.play();
  }

  play() {
    if (!this.armed) return;
    const { context } = this;
    for (const [frequency, after] of TONES) {
      const at = context.currentTime + after;
      const tone = context.createOscillator();
      const loud = context.createGain();
      tone.frequency.value = frequency;
      loud.gain.setValueAtTime(0.0001, at);
      loud.gain.exponentialRampToValueAtTime(0.12, at + 0.02);
      loud.gain.exponentialRampToValueAtTime(0.0001, at + 0.22);
      tone.connect(loud).connect(context.destination);
      tone.start(at);
      tone.stop(at + 0.25);
    }
  }
}
