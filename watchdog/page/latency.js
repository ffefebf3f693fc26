// How long probes took, part by part, with the limit, over the last minutes.

import { Numbers, h, refill, say, svg } from "./dom.js";
import { toneOfVerdict } from "./marks.js";
import { VERDICTS, clock, count, seconds } from "./words.js";

const HEIGHT = 190, LEFT = 54, RIGHT = 10, TOP = 22, BOTTOM = 24;
const LEAST_SPAN_S = 60, LEAST_COLUMN = 6, MOST_ROWS = 30;
const PARTS = ["client", "network", "front-end", "queue", "input-copy", "model", "device", "output-copy"];
const RANK = { healthy: 0, suspect: 1, inconclusive: 2, failed: 3 };
const MARKS = { suspect: "!", inconclusive: "?", failed: "✕" };

export class LatencyChart {
  constructor(model) {
    this.picture = h("div", { class: "plot" });
    this.legend = h("ul", { class: "legend", "aria-label": "Parts of the time" });
    this.note = h("p", { class: "note" });
    this.numbers = new Numbers(`Latency of ${model}`, ["time", "whole", "of which", "probes", "verdict"]);
    this.element = h("section", { class: "panel" },
      h("h4", {}, "Latency of canaries"), this.picture, this.legend, this.note, this.numbers.element);
  }

  update({ probes, limits, at, over_s }) {
    const width = Math.max(260, this.picture.clientWidth || 560);
    if (!probes.length) {
      refill(this.picture, "none", () => h("p", { class: "empty" }, "No probe in the last minutes."));
      return;
    }
    const span = Math.min(over_s, Math.max(LEAST_SPAN_S, at - probes[0].at));
    const columns = bucketed(probes, at - span, span, Math.floor((width - LEFT - RIGHT) / LEAST_COLUMN));
    const parts = partsOf(probes);
    const limit = limitOf(probes.at(-1), limits);
    refill(this.picture, [width, columns, limit, Math.round(at)], () => draw({ width, columns, parts, limit, at, span }));
    refill(this.legend, parts, () => parts.map((part) =>
      h("li", {}, svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
        svg("rect", { width: 10, height: 10, rx: 2, class: `part ${part}` })), NAMES[part] ?? part)));
    say(this.note, limitSays(limit, columns));
    this.numbers.update(() => columns.slice(-MOST_ROWS).reverse().map((c) => [
      clock(c.at), seconds(c.total), parts.map((p) => `${NAMES[p] ?? p} ${seconds(c.parts[p] ?? 0)}`).join(", "),
      String(c.probes), VERDICTS[c.verdict],
    ]));
  }
}

const NAMES = { host: "host", device: "device", total: "not divided", model: "model’s own code" };

/** A traced probe's time in all its parts, else device and host, else the whole. */
function split(probe) {
  if (Object.keys(probe.parts).length) return probe.parts;
  return probe.device_s === null ? { total: probe.total_s } : { device: probe.device_s, host: probe.host_s };
}

function partsOf(probes) {
  const found = new Set(probes.flatMap((probe) => Object.keys(split(probe))));
  return [...PARTS, "host", "total"].filter((part) => found.has(part));
}

function bucketed(probes, begin, span, most) {
  const buckets = new Map();
  for (const probe of probes) {
    const i = Math.floor(((probe.at - begin) / span) * most);
    if (i < 0) continue;
    if (!buckets.has(i)) buckets.set(i, []);
    buckets.get(i).push(probe);
  }
  return [...buckets].map(([i, members]) => column(i / most, 1 / most, members));
}

function column(from, share, members) {
  const parts = {};
  for (const probe of members) {
    for (const [part, s] of Object.entries(split(probe))) parts[part] = (parts[part] ?? 0) + s / members.length;
  }
  const worst = members.reduce((a, b) => (RANK[b.verdict] > RANK[a.verdict] ? b : a));
  return {
    from, share, parts, at: members[0].at, probes: members.length, verdict: worst.verdict,
    engine: members.at(-1).engine, total: Object.values(parts).reduce((a, b) => a + b, 0),
  };
}

function limitOf(newest, limits) {
  return { engine: newest.engine, seconds: limits[newest.engine]?.[newest.profile] ?? null };
}

function limitSays(limit, columns) {
  if (limit.seconds === null) return `No limit is set for the ${limit.engine} engine.`;
  const highest = Math.max(...columns.map((c) => c.total));
  const far = isFar(limit, highest) ? ", far above this picture" : "";
  return `Limit of the ${limit.engine} engine: ${seconds(limit.seconds)}${far}.`;
}

const isFar = (limit, highest) => limit.seconds > 4 * highest;

function draw({ width, columns, parts, limit, at, span }) {
  const highest = Math.max(...columns.map((c) => c.total), 1e-6);
  const top = nice(limit.seconds === null || isFar(limit, highest) ? highest : Math.max(highest, limit.seconds * 1.08));
  const inner = width - LEFT - RIGHT, x = (share) => LEFT + share * inner;
  const y = (s) => HEIGHT - BOTTOM - (s / top) * (HEIGHT - TOP - BOTTOM);
  const wrong = columns.filter((c) => c.verdict !== "healthy").length;
  const label = `Latency of the last ${Math.round(span)} seconds: at most ${seconds(highest)}, newest ` +
    `${seconds(columns.at(-1).total)}; ${wrong ? count(wrong, "moment") + " with probes that were not right" : "all right"}.`;
  const picture = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(share * top), y2: y(share * top) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(share * top) + 4, "text-anchor": "end" }, seconds(share * top)),
    );
  }
  picture.append(...bands(columns, x, y(top), y(0)));
  for (const c of columns) picture.append(...bar(c, parts, x, y));
  if (limit.seconds !== null && !isFar(limit, highest)) {
    picture.append(
      svg("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y(limit.seconds), y2: y(limit.seconds) }),
      svg("text", { class: "tick strong", x: LEFT + 4, y: y(limit.seconds) - 4 }, `limit ${seconds(limit.seconds)}`),
    );
  }
  picture.append(
    svg("text", { class: "tick", x: LEFT, y: HEIGHT - 6 }, clock(at - span)),
    svg("text", { class: "tick", x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, "now"),
  );
  return picture;
}

function bar(c, parts, x, y) {
  const left = x(c.from) + 0.5, width = Math.max(1, x(c.from + c.share) - x(c.from) - 1);
  let sum = 0;
  const pieces = parts.filter((part) => c.parts[part]).map((part) => {
    const low = sum;
    sum += c.parts[part];
    return svg("rect", { class: `part ${part}`, x: left, width, y: y(sum), height: Math.max(0, y(low) - y(sum)) });
  });
  const title = svg("title", {}, `${clock(c.at)}: ${seconds(c.total)}, ${VERDICTS[c.verdict]}`);
  const mark = c.verdict === "healthy" ? null
    : svg("text", { class: `mark ${toneOfVerdict(c.verdict)}`, x: left + width / 2, y: TOP - 8, "text-anchor": "middle" }, MARKS[c.verdict]);
  return [svg("g", {}, title, ...pieces, mark)];
}

/** Where the safe engine served. */
function bands(columns, x, top, bottom) {
  const found = [];
  for (const c of columns) {
    const last = found.at(-1);
    if (last && last.engine === c.engine) last.end = c.from + c.share;
    else found.push({ engine: c.engine, begin: c.from, end: c.from + c.share });
  }
  return found.filter((band) => band.engine === "safe").map((band) => svg("g", {},
    svg("rect", { class: "band", x: x(band.begin), width: x(band.end) - x(band.begin), y: top, height: bottom - top }),
    svg("text", { class: "tick", x: x(band.begin) + 4, y: top + 12 }, x(band.end) - x(band.begin) > 60 ? "safe engine" : ""),
  ));
}

/** The next round number. */
function nice(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10].find((step) => step * unit >= value * 0.9999);
}
