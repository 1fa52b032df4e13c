// The legend: what each colour means here, and how many kilometres are so now.

import { h, setAttribute, setText } from "./dom.js";
import { kilometres, legendRows, modeOf } from "./layers.js";
import { number, t } from "./text.js";

export class Legend {
  constructor(host, onClassic) {
    this.bar = h("div", { class: "share-bar" });
    const fold = { type: "button", class: "fold", "aria-expanded": "true", "data-hint": "legend.fold", "data-label": "legend.title" };
    this.fold = h("button", { ...fold, on: { click: () => this.toggle() } }, this.bar);
    this.rows = h("ul");
    this.source = h("span");
    this.classic = h("button", { type: "button", class: "link", "aria-pressed": "false", "data-text": "legend.classic", on: { click: onClassic } });
    this.el = h("div", { id: "legend" }, this.fold, h("div", { class: "unfolded" }, this.rows, h("p", {}, this.source), h("p", {}, this.classic)));
    this.attribution = h("p", { id: "attribution" });
    host.append(this.el, this.attribution);
    for (let at = 0; at < 6; at++) {
      this.bar.append(h("span"));
      this.rows.append(h("li", {}, h("i"), h("span", { class: "word" }), h("span", { class: "km" })));
    }
    this.toggle(matchMedia("(max-width: 1500px), (max-height: 820px)").matches);
  }

  toggle(folded = !this.el.hasAttribute("data-folded")) {
    setAttribute(this.el, "data-folded", folded ? "" : null);
    setAttribute(this.fold, "aria-expanded", folded ? "false" : "true");
  }

  show(layer, classes, network) {
    if (!network) return;
    const km = kilometres(classes, network.lengthKm);
    const total = km.reduce((sum, value) => sum + value, 0) || 1;
    legendRows(layer).forEach(({ drawn, key }, at) => {
      const [row, part] = [this.rows.children[at], this.bar.children[at]];
      setAttribute(row, "data-level", drawn);
      setAttribute(part, "data-level", drawn);
      part.style.flexGrow = String(km[drawn] / total);
      setText(row.children[1], t(key));
      setText(row.children[2], `${number(km[drawn])} ${t("unit.km")}`);
      setAttribute(part, "title", `${t(key)}: ${number(km[drawn])} ${t("unit.km")}`);
    });
    setText(this.source, t(`legend.source.${modeOf(layer)}`));
    setText(this.attribution, network.meta.attribution);
  }
}
