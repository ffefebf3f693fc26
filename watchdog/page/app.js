// Keeps the page as true as the watchdog's last answer, and says so when there is none: old facts must look old.

import { ask } from "./ask.js";
import { h, mark, say } from "./dom.js";
import { Journal } from "./journal.js";
import { ModelView, troubleOf } from "./model.js";
import { Site, showAlerts } from "./site.js";
import { ago, clock, count, span } from "./words.js";

const EVERY_MS = 1000;
const LATEST_MS = 10000;
const STALE_MS = 4000;
const DETAILS_EVERY = 2; // of the looks at the status

const at = (id) => document.getElementById(id);
const views = new Map();
const journal = new Journal(document);
const site = new Site(at("site"));
const context = { dialog: at("dialog"), refresh: () => look() };
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.view.inView = entry.isIntersecting;
}, { rootMargin: "200px" });

let answeredAt = null; // performance.now() of the last answer
let watchdogAt = 0; // its clock then
let delay = EVERY_MS;
let looks = 0;
let timer = null;
let looking = false;
let startedAt = null;
let numbers = 0;

async function look() {
  clearTimeout(timer);
  if (document.hidden || looking) return;
  looking = true;
  try {
    const status = await ask("api/v1/status");
    answeredAt = performance.now();
    watchdogAt = status.at;
    delay = EVERY_MS;
    show(status);
    if (looks++ % DETAILS_EVERY === 0) await details();
  } catch (error) {
    delay = Math.min(delay * 2, LATEST_MS);
    console.info("The watchdog did not answer:", error.message);
  } finally {
    looking = false;
  }
  showAge();
  if (!document.hidden) timer = setTimeout(look, delay);
}

async function details() {
  await Promise.all([journal.update(), ...[...views.values()].filter((view) => view.inView).map((view) => view.look())]);
}

function show(status) {
  const born = Math.round(status.at - status.up_s);
  if (startedAt !== null && Math.abs(born - startedAt) > 2) { // another process: nothing of the old one may stay
    journal.clear();
    for (const name of [...views.keys()]) drop(name);
    looks = 0;
  }
  startedAt = born;
  showModels(status);
  const told = Object.values(status.models).map((model) => troubleOf(model.policy)?.detail).filter(Boolean);
  showAlerts(at("alert-list"), status.alerts, told);
  site.update(status);
  say(at("news"), news(status));
}

function showModels(status) {
  const names = Object.keys(status.models);
  for (const name of [...views.keys()]) if (!names.includes(name)) drop(name);
  for (const name of names) {
    if (!views.has(name)) add(name);
    views.get(name).update(status.models[name], status.at, status.commands);
  }
  if (!names.length) at("models").replaceChildren(h("p", { class: "empty" }, status.starting ?? "No model is watched."));
}

function add(name) {
  if (!views.size) at("models").replaceChildren();
  const view = new ModelView(name, ++numbers, context);
  view.element.view = view;
  views.set(name, view);
  at("models").append(view.element);
  seen.observe(view.element);
}

function drop(name) {
  seen.unobserve(views.get(name).element);
  views.get(name).element.remove();
  views.delete(name);
}

/** For screen readers: changes when a state or the alerts do, and never for time alone. */
function news(status) {
  const states = [...views.values()].map((view) => `${view.name}: ${view.words}.`);
  return [...states, status.alerts.length ? `${count(status.alerts.length, "alert")}: ${status.alerts.map((a) => a.summary).join("; ")}.` : "No alert."].join(" ");
}

function showAge() {
  const age = answeredAt === null ? Infinity : performance.now() - answeredAt;
  const stale = age > STALE_MS && (answeredAt !== null || performance.now() > STALE_MS);
  document.body.classList.toggle("stale", stale);
  mark(at("main"), "aria-busy", String(answeredAt === null));
  at("stale").hidden = !stale;
  if (stale) {
    const last = answeredAt === null ? "It has not answered yet." : `What is below was true at ${clock(watchdogAt)}, and may not be now.`;
    // Whole tens of seconds, so that a reader is not told each second.
    const since = answeredAt === null ? "" : ` for ${age < 10000 ? "some seconds" : span(Math.floor(age / 10000) * 10)}`;
    say(at("stale"), `The watchdog does not answer${since}. ${last} This page goes on asking.`);
    say(at("connection"), "no answer");
  } else {
    say(at("connection"), answeredAt === null ? "connecting …" : `live, answered ${ago(age / 1000)}`);
  }
  mark(at("connection"), "data-tone", stale ? "bad" : "good");
  document.title = title(stale);
}

function title(stale) {
  if (stale) return "No answer · Inference watchdog";
  const bad = [...views.values()].filter((view) => view.tone !== "good");
  return bad.length ? `${bad[0].name}: ${bad[0].words} · Inference watchdog` : "Inference watchdog";
}

document.addEventListener("visibilitychange", () => {
  showAge(); // whoever comes back sees at once that this is old
  look();
});
addEventListener("resize", () => views.forEach((view) => view.draw()));
setInterval(() => document.hidden || showAge(), 500);
look();
