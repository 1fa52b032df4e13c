// The live page: waits for Dash's layout, then ties the socket, the map and the panels together. No logic of its own.

import { Alerts, alertTitle } from "./alerts.js";
import { cookie, h, setAttribute, setCookie, setText } from "./dom.js";
import { chartKeys } from "./keys.js";
import { Legend } from "./legend.js";
import { HORIZONS, LEVEL, SPEED, TYPICAL, modeOf } from "./layers.js";
import { Coming, Ranking } from "./lists.js";
import { Live } from "./live.js";
import { RoadMap } from "./map.js";
import { chains } from "./network.js";
import { Overlay } from "./overlay.js";
import { Segment } from "./segment.js";
import { Sound } from "./sound.js";
import { Status } from "./status.js";
import * as text from "./text.js";
import { Tools } from "./tools.js";
import * as url from "./url.js";
import { Vitals } from "./vitals.js";

const { t } = text;
const RUNS_MS = 30_000;
const wanted = url.read();
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const fetchNetwork = () =>
  fetch("api/v1/network.bin").then((answer) => {
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.arrayBuffer();
  });
const networkBytes = fetchNetwork().catch(() => null); // asked for at once, before Dash has drawn anything

if (wanted.theme) root.dataset.theme = wanted.theme;
root.dataset.palette = wanted.palette ?? cookie("citybrain_palette") ?? "standard";
if (wanted.wall) root.dataset.wall = "";

class Page {
  constructor() {
    this.layer = wanted.layer;
    this.segment = -1;
    this.marks = [];
    this.momentMs = 0;
    text.fillTexts(document);
    this.build();
    this.switches();
    this.look();
    this.connect();
    this.load();
    addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    addEventListener("resize", () => this.look());
    matchMedia("print").addEventListener("change", (event) => this.print(event.matches));
  }

  build() {
    this.sound = new Sound((armed) => this.status?.showSound(armed));
    this.status = new Status(byId("status"), byId("clock"), byId("banner"), {
      stale: (stale) => setAttribute(byId("shell"), "data-stale", stale ? "" : null),
      age: (seconds, timeMs, stale) => this.vitals?.showAge(seconds, timeMs, stale),
      second: (now) => this.second(now),
    });
    this.status.showSound(false);
    this.status.sound.addEventListener("click", () => this.sound.toggle());
    this.vitals = new Vitals(byId("vitals"));
    this.vitals.show(null);
    const host = byId("map-panel");
    this.map = new RoadMap(host, {
      view: (rests) => this.viewed(rests),
      hover: (i, px, py) => this.hover(i, px, py),
      pick: (i) => (i >= 0 ? this.pick(i) : this.close()),
      painted: (message) => this.painted(message),
    });
    this.map.layer = this.layer;
    this.tools = new Tools(host, {
      layer: (layer) => this.show(layer),
      find: (hit) => this.find(hit),
      zoom: (factor) => this.map.zoom(factor),
      home: () => this.map.home(),
    });
    this.legend = new Legend(host, () => this.classic());
    this.tip = h("div", { id: "tip", hidden: true, role: "tooltip" });
    this.note = h("div", { id: "map-note", role: "status", hidden: true });
    host.append(this.tip, this.note);
    this.alerts = new Alerts(byId("alerts"), {
      pick: (alert) => this.pickAlert(alert.alert_id),
      near: (id) => this.overlay?.emphasize(id),
      fresh: (alerts) => this.fresh(alerts),
      shown: (alerts) => this.overlay?.showAlerts(alerts, alertTitle),
    });
    this.coming = new Coming(byId("coming"), (row) => this.pick(row.segment, row.segments));
    this.ranking = new Ranking(byId("ranking"), (row) => this.pick(row.segment, row.segments), (list) => this.overlay?.mark("hover", list));
    this.panel = new Segment(byId("segment"), {
      close: () => this.close(),
      pick: (i) => this.pick(i),
      alert: (id) => this.pickAlert(id),
    });
    this.panel.run = wanted.run;
    this.vitals.replay = Boolean(wanted.run);
    this.coming.replay = Boolean(wanted.run);
    setInterval(() => document.hidden || this.views(true), RUNS_MS);
    this.coming.show(null, false);
    this.ranking.show(null);
    this.tools.show(this.layer);
    text.fillTexts(document);
    this.waiting();
  }

  connect() {
    const address = new URL("api/v1/live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = wanted.run ? `?run=${encodeURIComponent(wanted.run)}` : "";
    this.live = new Live(address.href, {
      link: (lostAt) => this.status.link(lostAt),
      hello: (message) => this.hello(message),
      status: (message) => this.status.take(message),
      vitals: (message) => this.tookVitals(message),
      ranking: (message) => this.ranking.show(message),
      alerts: (message) => this.alerts.take(message, this.status.now() ?? Date.now()),
      coming: (message) => this.coming.show(message, this.momentMs > 0),
      layer: (layer, changed, received) => this.tookLayer(layer, changed, received),
    });
  }

  /** Load the network, as often as it takes. */
  async load() {
    for (let bytes = await networkBytes, wait = 1000; ; wait = Math.min(15_000, wait * 2)) {
      if (bytes) return this.loaded(bytes);
      this.say(t("map.failed"));
      await new Promise((resolve) => setTimeout(resolve, wait));
      bytes = await fetchNetwork().catch(() => null);
    }
  }

  loaded(bytes) {
    this.map.start(bytes, (meta) => url.viewOf(wanted, meta));
    const { meta } = this.map.network;
    text.setTimeZone(meta.city.timezone);
    this.tools.index(this.map.network);
    this.overlay = new Overlay(this.map, chains(this.map.network), (id) => this.pickAlert(id));
    if (this.alerts.alerts) this.overlay.showAlerts(this.alerts.alerts, alertTitle);
    this.cityName();
    this.compare();
    this.waiting();
    if (wanted.segment !== null && wanted.segment < this.map.network.n) this.pick(wanted.segment);
    this.legend.show(this.layer, this.map.classes, this.map.network);
    this.redraw();
  }

  // ---- what the socket says -----------------------------------------------------------------------------------

  hello(message) {
    this.status.take(message);
    this.compare();
    this.views();
  }

  /** Another network than the one drawn: load the page anew, but not again and again. */
  compare() {
    const served = this.live.last.get("hello")?.network;
    const drawn = this.map.network?.meta.version;
    if (!served || !drawn || served === drawn) return;
    const last = Number(sessionStorage.getItem("citybrain.reloaded") ?? 0);
    if (Date.now() - last < 60_000) return void this.say(t("banner.network"));
    sessionStorage.setItem("citybrain.reloaded", String(Date.now()));
    location.reload();
  }

  tookVitals(message) {
    this.vitals.show(message);
    if (message.time_ms && message.time_ms !== this.momentMs) {
      this.momentMs = message.time_ms;
      this.waiting();
      this.coming.show(this.live.last.get("coming"), true);
      this.tell("moment", { time_ms: message.time_ms, run: wanted.run });
    }
  }

  tookLayer(layer, changed, received) {
    this.map.take(layer, this.live.layers.get(layer), changed, received);
    if (layer !== this.layer) return this.liveSegment();
    this.legend.show(layer, this.map.classes, this.map.network);
    this.waiting();
    this.liveSegment();
    return undefined;
  }

  liveSegment() {
    const values = (layer) => this.live.layers.get(layer)?.[this.segment] ?? 0;
    if (this.segment >= 0) this.panel.live(values(SPEED), values(LEVEL));
  }

  painted(message) {
    const hook = window.cityBrain;
    root.dataset.ready = "";
    hook.stats = this.map.stats;
    hook.last = message;
  }

  second(now) {
    if (now - (this.drawnAt ?? 0) < 1000 && now > (this.drawnAt ?? 0)) return;
    this.drawnAt = now;
    chartKeys(byId("index-note"), byId("segment-key"), now);
    if (this.alerts?.alerts) this.alerts.draw(now);
  }

  fresh(alerts) {
    this.sound.play();
    this.announce(t("alert.new", { title: alertTitle(alerts[0]) }));
  }

  announce(sentence) {
    this.spoken ??= byId("shell").appendChild(h("div", { class: "spoken", role: "alert" }));
    setText(this.spoken, sentence);
  }

  // ---- what the operator does ---------------------------------------------------------------------------------

  show(layer) {
    this.layer = layer;
    this.map.show(layer);
    this.tools.show(layer);
    this.legend.show(layer, this.map.classes, this.map.network);
    this.overlay?.drawLines();
    this.waiting();
    url.write({ layer: layer || null });
  }

  pick(segment, segments = [segment]) {
    const { network, grid } = this.map;
    if (!network || segment < 0 || segment >= network.n) return;
    this.segment = segment;
    this.marks = segments;
    this.panel.open(segment, network, grid.twin[segment]);
    this.liveSegment();
    this.map.resized();
    const [x, y] = grid.middle(segment);
    if (!this.map.isInView(x, y, 60)) this.map.goTo(x, y, 0.25);
    this.overlay?.mark("selected", segments);
    this.ranking.select(segment);
    this.tell("selected", { segment, run: wanted.run });
    url.write({ segment });
  }

  pickAlert(id) {
    const alert = this.alerts.alerts?.find((each) => each.alert_id === id);
    if (alert) this.pick(this.worst(alert.segments), alert.segments);
  }

  /** The segment of a stretch where it is worst now; its head may be free already. */
  worst(segments) {
    const levels = this.live.layers.get(LEVEL);
    const level = (i) => levels?.[i] ?? 0;
    return segments.reduce((worst, i) => (level(i) > level(worst) ? i : worst), segments[0]);
  }

  close() {
    if (this.segment < 0) return;
    this.segment = -1;
    if (byId("segment").contains(document.activeElement)) this.map.surface.focus({ preventScroll: true });
    this.panel.close();
    this.overlay?.mark("selected", []);
    this.ranking.select(-1);
    this.tell("selected", null);
    url.write({ segment: null });
    this.map.resized();
  }

  find(hit) {
    const { network } = this.map;
    const segments = hit.segments ?? [...network.district.keys()].filter((i) => network.district[i] === hit.area);
    if (!segments.length) return;
    const { box } = this.map.grid;
    const edge = (at, best) => segments.reduce((value, i) => best(value, box[4 * i + at]), box[4 * segments[0] + at]);
    this.map.goToBounds([edge(0, Math.min), edge(1, Math.min), edge(2, Math.max), edge(3, Math.max)]);
    if (hit.kind === "detector") this.pick(segments[0]);
    else if (hit.kind === "road") this.overlay.mark("hover", segments);
  }

  hover(i, px, py) {
    if (this.hovered !== i) {
      this.hovered = i;
      this.overlay?.mark("hover", i >= 0 ? [i] : []);
      setAttribute(this.map.surface, "data-over", i >= 0 ? "" : null);
      this.tip.hidden = i < 0;
      if (i >= 0) this.fillTip(i);
    }
    if (i < 0) return;
    const { width: w } = this.map.size;
    const left = px > w - 280 * this.map.unit;
    this.tip.style.transform = `translate(${px}px, ${py}px) translate(${left ? "calc(-100% - 14px)" : "14px"}, 14px)`;
  }

  fillTip(i) {
    const { network } = this.map;
    const at = (layer) => this.live.layers.get(layer)?.[i] ?? 0;
    const speed = at(SPEED);
    const level = modeOf(this.layer) === "level" ? at(this.layer) : at(LEVEL);
    const sensors = network.meta.detectors.filter((detector) => detector.segment === i).length;
    const free = t("tip.free_flow", { speed: text.number(network.freeFlowKmh[i]) });
    const lines = [
      h("strong", {}, network.meta.roads[network.road[i]] || t("map.unnamed")),
      h("span", { "data-level": level, class: "level" }, t(`level.${level}`)),
      h("span", {}, speed > 0 && !(this.layer > 0 && this.layer < TYPICAL) ? `${text.number(speed)} ${t("unit.kmh")}${t("list.separator")}${free}` : free),
      h("span", { class: "hint" }, sensors ? t("map.sensors", { n: sensors }) : t("map.no_sensor")),
    ];
    this.tip.replaceChildren(...lines);
  }

  viewed(rests) {
    this.overlay?.update(rests);
    if (rests && this.moved) url.write(url.viewParams(this.map.view, this.map.network.meta));
    this.moved = true;
  }

  // ---- words, colours -----------------------------------------------------------------------------------------

  switches() {
    const button = (key, hint, action) => h("button", { type: "button", "data-text": key, "data-hint": hint, on: { click: action } });
    this.themeButton = button("switch.light", "switch.theme_hint", () => this.theme());
    const language = button("switch.language", "switch.language_hint", () => this.language());
    language.id = "language";
    this.themeButton.id = "theme";
    byId("switches").append(this.themeButton, language);
    this.nameTheme();
  }

  nameTheme() {
    this.themeButton.dataset.text = root.dataset.theme === "light" ? "switch.dark" : "switch.light";
    text.fillTexts(byId("switches"));
  }

  theme() {
    root.dataset.theme = root.dataset.theme === "light" ? "dark" : "light";
    setCookie("citybrain_theme", root.dataset.theme);
    if (wanted.theme) url.write({ theme: null });
    this.nameTheme();
    this.recolor();
  }

  /** On paper everything is light. */
  print(begins) {
    if (begins) this.screenTheme = root.dataset.theme;
    root.dataset.theme = begins ? "light" : this.screenTheme;
    this.recolor();
  }

  classic() {
    root.dataset.palette = root.dataset.palette === "classic" ? "standard" : "classic";
    setCookie("citybrain_palette", root.dataset.palette);
    this.recolor();
  }

  recolor() {
    setAttribute(this.legend.classic, "aria-pressed", root.dataset.palette === "classic" ? "true" : "false");
    this.map.restyle();
    this.look();
  }

  language() {
    const next = text.languages[(text.languages.indexOf(text.currentLanguage()) + 1) % text.languages.length];
    text.setLanguage(next);
    setCookie("citybrain_language", next);
    this.redraw();
    this.look();
  }

  /** Draw everything again from what was last heard, in the language of now. */
  redraw() {
    text.fillTexts(document);
    const last = (kind) => this.live.last.get(kind) ?? null;
    this.cityName();
    this.vitals.show(last("vitals"));
    this.coming.show(last("coming"), this.momentMs > 0);
    this.ranking.show(last("ranking"));
    if (this.alerts.alerts) this.alerts.draw(this.status.now() ?? Date.now(), true);
    chartKeys(byId("index-note"), byId("segment-key"), this.status.now() ?? Date.now());
    this.status.tick();
    this.status.showSound(this.sound.armed);
    this.views();
    this.waiting();
    this.panel.draw();
    this.liveSegment();
    this.legend.show(this.layer, this.map.classes, this.map.network);
    if (this.overlay) this.overlay.showAlerts(this.alerts.alerts ?? [], alertTitle);
  }

  cityName() {
    const city = this.map.network?.meta.city;
    if (!city) return;
    const name = (text.currentLanguage() === "zh" && city.name_zh) || city.name;
    setText(byId("city-name"), name);
    document.title = t("app.title", { city: name });
  }

  /** The live city and the replay runs, where there are any. */
  async views(again = false) {
    const nav = byId("views");
    if (again) this.runs = null;
    this.runs ??= fetch("api/v1/runs").then((answer) => (answer.ok ? answer.json() : { runs: [] })).catch(() => ({ runs: [] }));
    const answer = await this.runs;
    const runs = Array.isArray(answer) ? answer : (answer.runs ?? []);
    const shown = [null, ...runs.slice(-3)];
    if (wanted.run && !shown.includes(wanted.run)) shown.push(wanted.run);
    const link = (run) => {
      const current = (run ?? "") === wanted.run;
      const label = run ? t("nav.run", { run: text.runName(run) }) : t("nav.live");
      return h("a", { href: run ? `?run=${encodeURIComponent(run)}` : "?", title: run, "aria-current": current ? "page" : null }, label);
    };
    const links = shown.map(link);
    if (links.map((el) => el.outerHTML).join() !== [...nav.children].map((el) => el.outerHTML).join()) nav.replaceChildren(...links);
  }

  /** What the map cannot show, in a sentence on it. */
  waiting() {
    const { network } = this.map;
    const forecast = this.layer > 0 && this.layer < TYPICAL;
    const nothing = network && !this.map.classes.some((value) => value > 0);
    if (!network) return void this.say(null);
    if (nothing) return void this.say(t(forecast ? "map.forecast_missing" : "map.waiting"));
    const ahead = HORIZONS.find(({ layer }) => layer === this.layer)?.minutes;
    if (ahead && this.momentMs) return void this.say(t("map.at", { time: text.minuteTime(this.momentMs + ahead * 60_000) }));
    return void this.say(network.meta.schematic ? t("map.schematic") : null);
  }

  say(sentence) {
    this.note.hidden = !sentence;
    setText(this.note, sentence ?? "");
  }

  /** Tell Dash's charts how the page looks now. */
  look() {
    const look = { language: text.currentLanguage(), theme: root.dataset.theme, unit: parseFloat(getComputedStyle(root).fontSize) / 16 };
    if (JSON.stringify(look) === JSON.stringify(this.looks)) return;
    this.looks = look;
    this.tell("look", look);
  }

  tell(store, data) {
    window.dash_clientside.set_props(store, { data });
  }
}

window.cityBrain = {};

/** Dash draws its layout when it is ready; the page begins then. */
function begin() {
  if (!byId("shell") || !window.dash_clientside?.set_props) return false;
  window.cityBrain.page = new Page();
  return true;
}

if (!begin()) {
  const watcher = new MutationObserver(() => begin() && watcher.disconnect());
  watcher.observe(document.body ?? root, { childList: true, subtree: true });
}
