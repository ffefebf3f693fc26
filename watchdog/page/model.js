// One model: its state in words, who serves, what canaries show, and the commands.

import { ACTIONS, act } from "./actions.js";
import { ask, modelPath } from "./ask.js";
import { Canaries } from "./canaries.js";
import { ConfidenceCharts } from "./confidence.js";
import { h, mark, refill, say, svg } from "./dom.js";
import { DriftTable } from "./drift.js";
import { LatencyChart } from "./latency.js";
import { moment, sign } from "./marks.js";
import { VERDICTS, ago, capital, plain, seconds, span, stateOf, toneOf, wordsOf } from "./words.js";

const OVERLAP_S = 20; // where a probe's time went is known only some seconds after its answer

export class ModelView {
  constructor(name, number, context) {
    this.name = name;
    this.context = context;
    this.inView = true;
    this.probes = new Map();
    this.sign = h("span", { class: "big-sign" });
    this.headline = h("p", { class: "headline" });
    this.because = h("p", { class: "because" });
    this.facts = h("dl", { class: "facts strip" });
    this.buttons = h("div", { class: "buttons", role: "group", "aria-label": `Commands for ${name}` });
    this.trouble = h("p", { class: "note bad-note", hidden: true });
    this.canaries = new Canaries(name);
    this.charts = [new LatencyChart(name), new ConfidenceCharts(name), new DriftTable(name)];
    const id = `model-${number}`;
    this.element = h("article", { class: "card model", "aria-labelledby": id },
      h("header", { class: "model-head" }, this.sign,
        h("div", { class: "words" }, h("h2", { id }, name), this.headline, this.because), this.buttons),
      this.facts, this.trouble,
      h("div", { class: "panels" }, this.canaries.element, ...this.charts.map((chart) => chart.element)));
  }

  /** Takes the status' part about this model; `now` is the watchdog's clock. */
  update(model, now, commands) {
    const tone = toneOf(model, now), policy = model.policy;
    const state = policy && stateOf(policy);
    this.tone = tone;
    mark(this.element, "data-tone", tone);
    refill(this.sign, tone, () => sign(tone));
    this.words = wordsOf(model, now);
    say(this.headline, this.words);
    const lasting = policy?.trouble && ["degraded", "blind"].includes(state); // through each new look at it
    const since = lasting ? Math.min(policy.since, policy.trouble.since) : policy?.since;
    const why = because(policy);
    refill(this.because, [since, policy && span(now - since), why], () => policy
      ? ["Since ", moment(since), `, for ${span(now - since)}. `, why] : []);
    this.#showFacts(model, now);
    this.#showButtons(policy, commands);
  }

  /** Fetches what the charts and pictures show. */
  async look() {
    const path = modelPath(this.name);
    const since = [...this.probes.keys()].at(-1);
    try {
      const query = since === undefined ? "" : `?since=${since - OVERLAP_S}`;
      const [history, canaries] = await Promise.all([ask(`${path}/history${query}`), ask(`${path}/canaries`)]);
      for (const probe of history.probes) this.probes.set(probe.at, probe);
      for (const at of this.probes.keys()) if (at <= history.at - history.over_s) this.probes.delete(at);
      this.history = { ...history, probes: [...this.probes.values()] };
      this.draw();
      this.canaries.update(canaries.answers, history.at);
      this.trouble.hidden = true;
    } catch (error) {
      this.trouble.hidden = false;
      say(this.trouble, `Pictures and charts are old: ${error.message}.`);
    }
  }

  draw() {
    if (this.history) for (const chart of this.charts) chart.update(this.history);
  }

  #showFacts(model, now) {
    const last = model.last?.public, policy = model.policy, serves = policy ? shares(policy) : null;
    const rows = [
      ["Serves", serves ? serves.text : "unknown"],
      ["Newest canary", last ? `${capital(VERDICTS[last.verdict])}, ${ago(now - last.sent_at)}` : "none yet"],
      ["Last right answer", model.healthy_at ? ago(now - model.healthy_at) : "none yet"],
      ["It took", last ? took(last) : "none yet"],
      ["Router says", ...routerSays(model.router)],
    ];
    refill(this.facts, rows, () => rows.map(([name, said, more]) => h("div", {}, h("dt", {}, name),
      h("dd", {}, said, more ? h("small", {}, more) : null, name === "Serves" && serves ? splitBar(serves) : null))));
  }

  #showButtons(policy, commands) {
    const offered = commands && policy ? offers(policy) : [];
    refill(this.buttons, [offered, commands], () => commands
      ? offered.map((name) => h("button", {
          type: "button", class: name === "rollback" ? "danger" : "quiet",
          onclick: () => act(this.context.dialog, this.name, name, this.context.refresh),
        }, ACTIONS[name].name))
      : h("p", { class: "note" }, "Commands are off: the configuration has no api.token."));
  }
}

function offers(policy) {
  const bound = policy.state === "held" || policy.state === "locked";
  return [
    "look",
    ...(policy.share > 0 ? ["rollback"] : []),
    ...(policy.share < 100 ? ["promote"] : []),
    ...(policy.state === "held" ? [] : ["hold"]),
    ...(bound ? ["release"] : []),
  ];
}

/** Why a model is not simply served by its fast engine; null where it is. */
export const troubleOf = (policy) => policy?.trouble ?? (policy?.desired === "safe" ? policy.cause : null);

function because(policy) {
  const trouble = troubleOf(policy);
  return trouble ? `${capital(plain(trouble.conclusion))}: ${trouble.detail}` : "";
}

function routerSays(router) {
  if (!router) return ["not asked"];
  return router.known && router.role ? [`${router.role} engine`] : [router.known ? "divided" : "cannot tell", router.detail];
}

function took(last) {
  if (last.fault) return `no answer in ${seconds(last.total_s)}`;
  return seconds(last.total_s) + (last.device_s === null ? "" : `, device ${seconds(last.device_s)}`);
}

function shares({ share }) {
  if (share === 100) return { fast: 100, text: "fast engine, 100 %" };
  return { fast: share, text: share === 0 ? "safe engine, 100 %" : `safe engine ${100 - share} %, fast ${share} %` };
}

function splitBar({ fast, text }) {
  return svg("svg", { class: "split", viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": text },
    svg("rect", { class: "fast", width: fast, height: 6 }),
    svg("rect", { class: "safe", x: fast, width: 100 - fast, height: 6 }));
}
