// Trust: clock, age of data, feeds, broker, sound, banner. Messages `hello` and `status` in; lights that are always in view.

import { h, setAttribute, setText } from "./dom.js";
import { age, clockTime, dayName, minuteTime, number, runName, t, zoneName } from "./text.js";

const STALE_TICKS = 3;

export class Status {
  /** `on.stale(bool)`, `on.age(seconds, timeMs, stale)`, `on.second(nowMs)`. */
  constructor(bar, clock, banner, on) {
    this.on = on;
    this.banner = banner;
    this.simulated = h("span", { class: "badge", hidden: true });
    this.data = this.light("data");
    this.feeds = this.light("feeds");
    this.sound = h("button", { type: "button", class: "light sound", "aria-pressed": "false" }, h("i"), h("span"));
    bar.append(this.simulated, this.data, this.feeds, this.sound);
    this.time = h("time", { class: "time" });
    this.date = h("span", { class: "date" });
    clock.append(this.time, this.date);
    this.status = null;
    this.hello = null;
    this.linkLostAt = null;
    this.brokerLostAt = null;
    this.stale = false;
    setInterval(() => this.tick(), 1000);
  }

  light(name) {
    return h("span", { class: "light", "data-light": name, "data-state": "unknown" }, h("i"), h("span"));
  }

  set(light, state, text, hint = null) {
    setAttribute(light, "data-state", state);
    setText(light.lastElementChild, text);
    setAttribute(light, "title", hint);
  }

  take(message) {
    if (message.kind === "hello") this.hello = message;
    else {
      this.status = message;
      this.heardAt = performance.now();
      if (message.broker !== "lost") this.brokerLostAt = null;
      else this.brokerLostAt ??= this.now();
    }
    this.tick();
  }

  link(lostAt) {
    this.linkLostAt = lostAt;
    this.tick();
  }

  /** The city's time now: as last heard, run on at the feed's speed; null before the first word. */
  now() {
    if (!this.status) return this.hello?.now_ms ?? null;
    const passed = performance.now() - this.heardAt;
    return this.status.simulated_now_ms + passed * (this.status.speed ?? 1);
  }

  dataAge() {
    if (!this.status || this.status.data_age_s === null || this.status.data_age_s === undefined) return null;
    return this.status.data_age_s + (performance.now() - this.heardAt) / 1000;
  }

  tick() {
    const now = this.now();
    if (now !== null) {
      setText(this.time, clockTime(now));
      setText(this.date, `${dayName(now)} · ${zoneName(now)}`);
      this.on.second(now);
    }
    this.showDemo();
    this.showData();
    this.showFeeds();
    this.showBanner();
  }

  showDemo() {
    const demo = this.hello?.demo;
    const speed = this.status?.speed ?? demo?.speed ?? 1;
    this.simulated.hidden = !demo?.simulated && !this.hello?.run;
    const text = speed > 1.01 ? t("status.simulated", { speed: number(speed) }) : t("status.simulated_real");
    setText(this.simulated, this.hello?.run ? t("nav.run", { run: runName(this.hello.run) }) : text);
  }

  showData() {
    const seconds = this.dataAge();
    const silent = this.linkLostAt !== null && performance.now() - this.heardAt > STALE_TICKS * (this.hello?.tick_ms ?? 1000);
    const stale = Boolean(this.status?.stale) || silent;
    if (stale !== this.stale) this.on.stale(stale);
    this.stale = stale;
    const timeMs = this.status?.data_time_ms ?? 0;
    if (seconds === null) this.set(this.data, this.hello ? "late" : "unknown", t(this.hello ? "status.no_data" : "status.connecting"));
    else if (this.hello?.run) this.set(this.data, "ok", t("status.replay", { time: minuteTime(timeMs) }));
    else this.set(this.data, stale ? "bad" : "ok", t("status.data", { age: age(seconds) }), timeMs ? t("change.data_time", { time: clockTime(timeMs) }) : null);
    this.on.age(seconds, timeMs, stale);
  }

  showFeeds() {
    const feeds = this.status?.feeds ?? [];
    this.feeds.hidden = !feeds.length && this.status?.broker !== "lost";
    const ok = feeds.filter((feed) => feed.state === "ok").length;
    const broker = this.status?.broker === "lost";
    const state = broker || ok === 0 ? "bad" : ok < feeds.length ? "late" : "ok";
    const lines = feeds.map((feed) => {
      const places = { name: feed.name, state: t(`status.feed.${feed.state}`) };
      return t("status.feed", { ...places, age: typeof feed.age_s === "number" ? age(feed.age_s) : "–" });
    });
    const text = broker ? t("status.broker_lost") : t("status.feeds", { ok, all: feeds.length });
    this.set(this.feeds, state, text, lines.join("\n"));
  }

  showSound(armed) {
    setAttribute(this.sound, "data-state", armed ? "ok" : "unknown");
    setAttribute(this.sound, "aria-pressed", armed ? "true" : "false");
    setText(this.sound.lastElementChild, t(armed ? "status.sound_on" : "status.sound_off"));
    this.sound.title = t("status.sound_hint");
  }

  /** One banner: what is most wrong, in a sentence; gone by itself. */
  showBanner() {
    const text = this.trouble();
    this.banner.hidden = !text;
    setText(this.banner, text ?? "");
  }

  trouble() {
    if (this.linkLostAt !== null && performance.now() - this.heardAt > 4000)
      return t("banner.link", { time: clockTime(this.linkLostAt) });
    const status = this.status;
    if (!status) return null;
    if (status.broker === "lost") return t("banner.broker", { time: minuteTime(this.brokerLostAt) });
    if (!this.stale || !status.data_time_ms) return null;
    return t("banner.stale", { time: clockTime(status.data_time_ms), age: age(this.dataAge() ?? 0) });
  }
}
