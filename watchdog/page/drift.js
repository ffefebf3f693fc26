// Evidence that something changed, against the threshold that the promise sets; on a logarithmic scale.

import { h, refill, svg } from "./dom.js";
import { SOURCES, clock, digits } from "./words.js";

const WIDTH = 220, HEIGHT = 36, LEAST_SPAN_S = 60;

export class DriftTable {
  constructor(model) {
    this.model = model;
    this.place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Evidence of drift of ${model}` });
    this.element = h("section", { class: "panel wide" }, h("h4", {}, "Drift"), this.place);
  }

  update({ drift, at, over_s }) {
    refill(this.place, [drift, Math.round(at / 5)], () => {
      const bodies = Object.entries(drift).map(([source, readings]) => body(source, readings, at, over_s));
      if (!bodies.length) return h("p", { class: "empty" }, "No detector has looked yet.");
      return h("table", { class: "drift" },
        h("caption", { class: "unseen" }, `Drift statistics of ${this.model} against their thresholds`),
        h("thead", {}, h("tr", {},
          ["reading", "evidence", "threshold", "lately, logarithmic", "promise"].map((c) => h("th", { scope: "col" }, c)))),
        ...bodies);
    });
  }
}

function body(source, readings, at, over) {
  return h("tbody", {},
    h("tr", { class: "group" }, h("th", { scope: "rowgroup", colspan: "5" }, SOURCES[source] ?? source)),
    Object.entries(readings).map(([reading, score]) => {
      const alarmed = score.alarm !== null;
      const says = alarmed ? [h("strong", {}, `Alarm: ${score.alarm.sentence}. `)] : [];
      return h("tr", { class: alarmed ? "alarmed" : null },
        h("th", { scope: "row" }, reading),
        h("td", { class: "number" }, digits(score.evidence)),
        h("td", { class: "number" }, digits(score.limit)),
        h("td", {}, line(reading, score, at, over)),
        h("td", {}, ...says, score.promise));
    }));
}

function line(reading, { points, limit, evidence }, at, most) {
  const over = Math.min(most, Math.max(LEAST_SPAN_S, at - (points[0]?.[0] ?? at)));
  const top = Math.log10(limit) + 0.5, bottom = -1;
  const y = (value) => HEIGHT - 3 - ((Math.max(bottom, Math.log10(Math.max(value ?? limit, 1e-9))) - bottom) / (top - bottom)) * (HEIGHT - 6);
  const x = (moment) => Math.max(0, WIDTH - ((at - moment) / over) * WIDTH);
  const path = points.map(([moment, value], i) => `${i ? "L" : "M"}${x(moment).toFixed(1)} ${Math.max(2, y(value)).toFixed(1)}`).join("");
  const newest = points.at(-1);
  const label = `${reading}: evidence ${digits(evidence)} of ${digits(limit)}` + (newest ? `, last seen ${clock(newest[0])}` : "");
  return svg("svg", { width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    svg("line", { class: "limit", x1: 0, x2: WIDTH, y1: y(limit), y2: y(limit) }),
    svg("path", { class: "line", d: path }),
    newest ? svg("circle", { class: "dot", cx: x(newest[0]), cy: Math.max(2, y(newest[1])), r: 2.6 }) : null);
}
