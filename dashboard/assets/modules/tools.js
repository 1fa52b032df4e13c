// What stands on the map: when (now and ahead), what (level, against typical, speed), search, zoom.

import { h, keyed, setAttribute, setText } from "./dom.js";
import { HORIZONS, LEVEL, MODES, SPEED, TYPICAL, modeOf } from "./layers.js";
import { t } from "./text.js";

const FOUND = 8;

export class Tools {
  /** `on.layer(layer)`, `on.find(hit)`, `on.zoom(factor)`, `on.home()`. */
  constructor(host, on) {
    this.on = on;
    this.when = this.group("map.horizon", HORIZONS.map(({ minutes, layer }) => ({ value: layer, key: `map.horizon.${minutes}` })));
    this.what = this.group("map.mode", MODES.map((mode) => ({ value: { level: LEVEL, typical: TYPICAL, speed: SPEED }[mode], key: `map.mode.${mode}` })));
    this.input = h("input", { type: "search", role: "combobox", "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", "data-placeholder": "map.search", "data-label": "map.search" });
    this.found = h("ul", { id: "found", role: "listbox", hidden: true });
    const search = h("div", { class: "search" }, this.input, this.found);
    host.append(h("div", { class: "tools" }, this.when, this.what, search), this.zoomButtons());
    this.listen(search);
    this.entries = [];
    this.at = -1;
  }

  group(key, options) {
    const buttons = options.map(({ value, key: text }) =>
      h("button", { type: "button", role: "radio", "data-value": value, "data-text": text, on: { click: () => this.on.layer(value) } }),
    );
    const group = h("div", { class: "group", role: "radiogroup", "data-label": key }, ...buttons);
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const from = buttons.indexOf(document.activeElement);
      if (!step || from < 0) return;
      event.preventDefault();
      const next = buttons[(from + step + buttons.length) % buttons.length];
      next.focus();
      next.click();
    });
    return group;
  }

  zoomButtons() {
    const button = (sign, key, action) => h("button", { type: "button", "data-hint": key, "data-label": key, on: { click: action } }, sign);
    return h(
      "div",
      { class: "zoom" },
      button("+", "map.zoom_in", () => this.on.zoom(1.6)),
      button("−", "map.zoom_out", () => this.on.zoom(1 / 1.6)),
      button("⤢", "map.home", () => this.on.home()),
    );
  }

  show(layer) {
    const mode = modeOf(layer);
    const chosen = [
      [this.when, mode === "level" ? layer : LEVEL],
      [this.what, { level: LEVEL, typical: TYPICAL, speed: SPEED }[mode]],
    ];
    for (const [group, value] of chosen)
      for (const button of group.children) {
        const on = Number(button.dataset.value) === value;
        setAttribute(button, "aria-checked", on ? "true" : "false");
        setAttribute(button, "tabindex", on ? 0 : -1);
      }
  }

  // ---- search -------------------------------------------------------------------------------------------------

  /** Everything that can be found: roads (all their segments), areas, detectors. */
  index(network) {
    const { meta, road, n } = network;
    const byRoad = meta.roads.map(() => []);
    for (let i = 0; i < n; i++) byRoad[road[i]].push(i);
    const roads = meta.roads.map((name, at) => ({ kind: "road", name, segments: byRoad[at] })).filter((e) => e.name);
    const areas = meta.areas
      .map((area, at) => ({ kind: "area", name: area.name, area: at, level: area.level }))
      .filter((entry) => entry.level === "district");
    const detectors = meta.detectors.map((detector) => ({ kind: "detector", name: detector.id, segments: [detector.segment] }));
    this.entries = [...roads, ...areas, ...detectors].map((entry) => ({ ...entry, plain: plain(entry.name) }));
  }

  listen(search) {
    this.input.addEventListener("input", () => this.search());
    this.input.addEventListener("focus", () => this.search());
    this.input.addEventListener("keydown", (event) => this.typed(event));
    search.addEventListener("focusout", (event) => search.contains(event.relatedTarget) || this.close());
  }

  search() {
    const wanted = plain(this.input.value.trim());
    if (!wanted) return this.close();
    const rank = (entry) => (entry.plain.startsWith(wanted) ? 0 : entry.plain.includes(` ${wanted}`) ? 1 : 2);
    this.hits = this.entries
      .filter((entry) => entry.plain.includes(wanted))
      .sort((a, b) => rank(a) - rank(b) || (a.kind === "detector") - (b.kind === "detector") || a.name.length - b.name.length)
      .slice(0, FOUND);
    this.at = this.hits.length ? 0 : -1;
    return this.draw();
  }

  draw() {
    const rows = this.hits.length ? this.hits : [{ kind: "none", name: "" }];
    const make = () => h("li", { role: "option" }, h("span"), h("small"));
    keyed(this.found, rows, (row) => `${row.kind}:${row.name}`, make, (el, row) => {
      setText(el.children[0], row.kind === "none" ? t("map.search.none") : row.name);
      setText(el.children[1], row.kind === "none" ? "" : t(`map.search.${row.kind}`));
      setAttribute(el, "aria-selected", row === this.hits[this.at] ? "true" : "false");
      el.onpointerdown = (event) => {
        event.preventDefault();
        if (row.kind !== "none") this.choose(row);
      };
    });
    this.found.hidden = false;
    setAttribute(this.input, "aria-expanded", "true");
  }

  typed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      this.input.value = "";
      this.close();
    } else if (event.key === "Enter" && this.hits?.[this.at] && !this.found.hidden) this.choose(this.hits[this.at]);
    else if (step && this.hits?.length) {
      this.at = (this.at + step + this.hits.length) % this.hits.length;
      this.draw();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  choose(hit) {
    this.input.value = hit.name;
    this.close();
    this.on.find(hit);
  }

  close() {
    this.found.hidden = true;
    setAttribute(this.input, "aria-expanded", "false");
  }
}

/** Without accents and case, as people type. */
const plain = (name) =>
  name
    .normalize("NFD")
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase();
