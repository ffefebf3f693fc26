// The newest canaries as pictures; wrong ones first.

import { modelPath } from "./ask.js";
import { h, say } from "./dom.js";
import { moment, sign, toneOfVerdict } from "./marks.js";
import { VERDICTS, ago, capital, clock, digits } from "./words.js";

const FEW = 4;
const NAMES = { input: "Input", golden: "Golden", current: "Current", difference: "Difference" };
const FINDINGS = 2;

export class Canaries {
  constructor(model) {
    this.model = model;
    this.cards = new Map();
    this.place = h("ul", { class: "canaries" });
    this.empty = h("p", { class: "empty" }, "No canary has come back yet.");
    this.more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#showAll() });
    this.legend = h("p", { class: "note" },
      "Heat maps lie over the input. The difference is that of each point, on the same scale; chequered is not a number.");
    this.element = h("section", { class: "panel wide" },
      h("h4", {}, "Newest canaries, wrong ones first"), this.empty, this.place, this.more, this.legend);
    this.most = FEW;
  }

  update(answers, now) {
    this.answers = answers;
    this.empty.hidden = answers.length > 0;
    this.legend.hidden = !answers.some((each) => each.pictures.length);
    const shown = answers.slice(0, this.most), fresh = new Map();
    for (const each of shown) {
      fresh.set(each.number, this.cards.get(each.number) ?? new Card(this.model, each));
    }
    const nodes = [...fresh.values()].map((card) => card.element);
    if (nodes.length !== this.place.children.length || nodes.some((node, i) => node !== this.place.children[i])) {
      this.place.replaceChildren(...nodes);
    }
    this.cards = fresh;
    for (const card of fresh.values()) card.age(now);
    this.more.hidden = answers.length <= this.most;
    say(this.more, `Show all ${answers.length}`);
  }

  #showAll() {
    this.most = Infinity;
    this.update(this.answers, this.answers[0].at);
    this.place.querySelector("li:last-child")?.scrollIntoView({ block: "nearest" });
  }
}

class Card {
  constructor(model, answer) {
    const tone = toneOfVerdict(answer.verdict);
    this.at = answer.at;
    this.when = h("span", { class: "age" });
    const by = `${answer.expected} engine${answer.public ? "" : ", asked directly"}`;
    this.element = h("li", { class: `canary ${tone}` },
      h("div", { class: "canary-head" }, sign(tone), h("strong", {}, capital(VERDICTS[answer.verdict])),
        h("span", { class: "id" }, answer.canary)),
      h("p", { class: "by" }, `${by} · `, moment(answer.at), " · ", this.when),
      pictures(model, answer),
      answer.findings.slice(0, FINDINGS).map((finding) => h("p", { class: "finding" }, finding.detail)),
      answer.fault && !answer.findings.length ? h("p", { class: "finding" }, answer.fault.detail) : null,
      answer.bars.map(bars),
      scores(answer));
  }

  age(now) {
    say(this.when, ago(now - this.at));
  }
}

function pictures(model, answer) {
  if (!answer.pictures.length) return null;
  const base = `${modelPath(model)}/canaries/${answer.number}`;
  return h("div", { class: "pictures" }, Object.entries(NAMES).map(([name, caption]) =>
    h("figure", {},
      answer.pictures.includes(name)
        ? picture(`${base}/${name}.png`, altOf(name, answer))
        : h("div", { class: "missing" }, answer.fault ? "no answer" : "none"),
      h("figcaption", {}, caption))));
}

function picture(src, alt) {
  const image = h("img", { src, alt, width: "128", height: "128", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(h("div", { class: "missing" }, "no longer kept")));
  return image;
}

function altOf(name, answer) {
  const { canary, output } = answer;
  switch (name) {
    case "input": return `The slice of canary ${canary} as the model was given it`;
    case "golden": return `${output} of ${canary} as it should be`;
    case "current": return `${output} of ${canary} as it came at ${clock(answer.at)}: ${VERDICTS[answer.verdict]}`;
    default: return `How far ${output} of ${canary} is from the golden one${farthest(answer)}`;
  }
}

function farthest({ limits, output }) {
  const found = limits.filter((each) => each.output === output && each.limit !== null);
  return found.length ? `: ${found.map((e) => `${e.measure} ${digits(e.score)}, ${limitOf(e)}`).join("; ")}` : "";
}

const limitOf = (each) => `${each.at_least ? "min" : "max"} ${digits(each.limit)}`;

/** An output that is no picture: a bar for each number, with a notch where the golden one is. */
function bars({ output, golden, current }) {
  const all = [...golden, ...current].filter((each) => each !== null);
  const low = Math.min(0, ...all), high = Math.max(1, ...all);
  return h("div", { class: "bars" }, (current.length ? current : golden).map((_, i) => {
    const [now, right] = [current[i], golden[i]];
    const name = golden.length > 1 || current.length > 1 ? `${output} ${i}` : output;
    const meter = h("span", { class: "meter", "aria-hidden": "true" });
    const share = (value) => `${(100 * (value - low)) / (high - low)}%`;
    if (now !== null && now !== undefined) meter.append(styled(h("span", { class: "fill" }), "width", share(now)));
    if (right !== null && right !== undefined) meter.append(styled(h("span", { class: "notch" }), "left", share(right)));
    const said = now === undefined ? "none came" : digits(now);
    return h("div", { class: "bar" }, h("span", { class: "name" }, name), meter,
      h("span", { class: "value" }, h("b", {}, said), right === undefined ? "" : ` golden ${digits(right)}`));
  }));
}

function styled(element, property, value) {
  element.style[property] = value;
  return element;
}

function scores({ limits }) {
  const shown = limits.filter((each) => each.limit !== null);
  if (!shown.length) return null;
  return h("dl", { class: "scores" }, shown.map((each) => h("div", {},
    h("dt", {}, `${each.output} ${each.measure.replaceAll("_", " ")}`),
    h("dd", {}, h("b", {}, digits(each.score)), ` ${limitOf(each)}`))));
}
