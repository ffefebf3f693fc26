// Which confidences answers had, against those of the reference: 20 bins over [0, 1].

import { Numbers, h, refill, say, svg } from "./dom.js";
import { count, digits } from "./words.js";

const HEIGHT = 150, LEFT = 38, RIGHT = 8, TOP = 10, BOTTOM = 22;
const TITLES = { canary: "canaries", live: "patients" };

export class ConfidenceCharts {
  constructor(model) {
    this.model = model;
    this.place = h("div", { class: "multiples" });
    this.element = h("section", { class: "panel" }, h("h4", {}, "Confidence against the reference"), this.place);
    this.charts = new Map();
  }

  update({ confidences, probes }) {
    const engine = probes.at(-1)?.engine ?? "fast";
    const wanted = ["canary", "live"].flatMap((source) => Object.entries(confidences[source] ?? {}).map(([output, counts]) =>
      ({ key: `${output}, ${TITLES[source]}`, reference: counts.reference ?? [], current: counts[source === "live" ? "fast" : engine] ?? [] })));
    const keys = wanted.map((each) => each.key);
    refill(this.place, keys, () => {
      this.charts = new Map(keys.map((key) => [key, new Histogram(this.model, key)]));
      return keys.length ? [...this.charts.values()].map((chart) => chart.element)
        : h("p", { class: "empty" }, "No output is read as a confidence.");
    });
    for (const each of wanted) this.charts.get(each.key).update(each, confidences.edges);
  }
}

class Histogram {
  constructor(model, name) {
    this.name = name;
    this.picture = h("div", { class: "plot" });
    this.note = h("p", { class: "note" });
    this.numbers = new Numbers(`Confidences of ${model}: ${name}`, ["up to", "reference", "now"]);
    this.element = h("div", { class: "multiple" }, h("h5", {}, name), this.picture, this.note, this.numbers.element);
  }

  update({ reference, current }, edges) {
    const width = Math.max(180, this.picture.clientWidth || 260);
    const wanted = shares(reference), now = shares(current);
    refill(this.picture, [width, wanted, now], () => draw(this.name, width, wanted, now));
    const [a, b] = [sum(reference), sum(current)];
    say(this.note, `Filled: ${count(b, "answer")} lately. Line: ${count(a, "answer")} of the reference.`);
    this.numbers.update(() => wanted.map((_, i) => [digits(edges[i + 1]), percent(wanted[i]), percent(now[i])]));
  }
}

const sum = (counts) => counts.reduce((a, b) => a + b, 0);
const percent = (share) => `${Math.round(share * 100)} %`;

function shares(counts) {
  const whole = sum(counts);
  return Array.from({ length: 20 }, (_, i) => (whole ? (counts[i] ?? 0) / whole : 0));
}

function draw(name, width, wanted, now) {
  const most = Math.max(0.1, ...wanted, ...now);
  const inner = (width - LEFT - RIGHT) / 20, x = (i) => LEFT + i * inner;
  const y = (share) => HEIGHT - BOTTOM - (share / most) * (HEIGHT - TOP - BOTTOM);
  const peak = now.indexOf(Math.max(...now));
  const label = now.some(Boolean)
    ? `Confidences of ${name}: most, ${percent(now[peak])}, lie between ${digits(peak / 20)} and ${digits((peak + 1) / 20)}; ` +
      `of the reference ${percent(wanted[peak])} do.`
    : `Confidences of ${name}: none lately.`;
  const picture = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const share of [0, most]) {
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(share), y2: y(share) }),
      svg("text", { class: "tick", x: LEFT - 5, y: y(share) + 4, "text-anchor": "end" }, percent(share)),
    );
  }
  now.forEach((share, i) => {
    if (share) picture.append(svg("rect", { class: "now", x: x(i) + 0.5, width: Math.max(1, inner - 1), y: y(share), height: y(0) - y(share) }));
  });
  if (wanted.some(Boolean)) {
    const steps = wanted.map((share, i) => `${i ? "V" : "M" + x(0) + " " + y(0) + "V"}${y(share)}H${x(i + 1)}`).join("");
    picture.append(svg("path", { class: "reference", d: `${steps}V${y(0)}` }));
  }
  for (const edge of [0, 0.5, 1]) {
    const anchor = edge === 0 ? "start" : edge === 1 ? "end" : "middle";
    picture.append(svg("text", { class: "tick", x: x(edge * 20), y: HEIGHT - 6, "text-anchor": anchor }, String(edge)));
  }
  return picture;
}
