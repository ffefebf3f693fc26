// Signs that say by their shape what their colour says too.

import { h, svg } from "./dom.js";
import { clock, utc } from "./words.js";

const SHAPES = {
  good: ["M5 10.5l3.2 3.2L15 7"],
  busy: ["M10 5v5l3.2 2"],
  warn: ["M10 5.5v5.5", "M10 14.2v.1"],
  bad: ["M6.2 6.2l7.6 7.6", "M13.8 6.2l-7.6 7.6"],
  unknown: ["M7.4 7.8a2.6 2.6 0 1 1 3.6 2.4c-.7.3-1 .8-1 1.6", "M10 14.6v.1"],
};

const OF_VERDICT = { healthy: "good", suspect: "warn", failed: "bad", inconclusive: "unknown" };

/** Beside a text that says the same, so readers pass over it. */
export function sign(tone) {
  return svg(
    "svg",
    { class: `sign ${tone}`, viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" },
    tone === "bad" ? svg("rect", { x: 1, y: 1, width: 18, height: 18, rx: 5 }) : null,
    tone === "warn" ? svg("path", { class: "body", d: "M10 .8l9.4 17.4H.6z" }) : null,
    ["good", "busy", "unknown"].includes(tone) ? svg("circle", { cx: 10, cy: 10, r: 9.2 }) : null,
    SHAPES[tone].map((d) => svg("path", { d })),
  );
}

export const toneOfVerdict = (verdict) => OF_VERDICT[verdict] ?? "unknown";

/** A moment in local time; its title says it in UTC. */
export const moment = (at) => h("time", { datetime: new Date(at * 1000).toISOString(), title: utc(at) }, clock(at));
