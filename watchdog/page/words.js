// Numbers, times and states as people say them.

export const STATES = {
  "serving-fast": "The fast engine serves",
  "serving-safe": "The safe engine serves",
  confirming: "Looking closer: both engines are being asked",
  proving: "Proving the engine that is to serve",
  switching: "Switching",
  recovering: "The safe engine serves; the fast one is being proven",
  returning: "Returning to the fast engine, step by step",
  probation: "The fast engine serves again, on probation",
  degraded: "Wrong or slow, and not moved",
  blind: "Blind: nothing could be measured",
  held: "Held by a person: nothing is moved",
  locked: "Locked: the day’s switches are spent",
};

export const VERDICTS = { healthy: "right", suspect: "right, but slow", failed: "wrong", inconclusive: "no answer" };

export const SOURCES = {
  canary: "Canaries’ answers",
  live: "Patients’ answers",
  shadow: "Fast against safe",
  timing: "How long canaries take",
  objective: "Latency objectives",
  peers: "Other watchdogs",
};

/** The state to show: one that is looked at again and again, since it is in trouble, stays what it was found to be. */
export function stateOf({ state, trouble }) {
  if (state !== "confirming" || !trouble) return state;
  return trouble.conclusion === "server-fault" ? "blind" : "degraded";
}

/** A model's state in words, and what its newest canary showed where the state does not say it yet. */
export function wordsOf(model, now) {
  if (!model.policy) return "Nothing is known yet";
  if (isSilent(model, now)) return "Not probed: the watchdog does not ask this model";
  const state = stateOf(model.policy), said = STATES[state] ?? capital(plain(state));
  const serves = ["serving-fast", "serving-safe", "probation", "recovering", "returning"].includes(state);
  const newest = { failed: "; its newest answer is wrong", inconclusive: "; its newest canary got no answer" };
  return said + (serves ? newest[model.last?.public?.verdict] ?? "" : "");
}

/** What a state means for whoever looks: `good`, `busy`, `warn`, `bad` or `unknown`. */
export function toneOf(model, now) {
  const policy = model.policy, last = model.last?.public;
  if (!policy || !last) return "unknown";
  if (["degraded", "blind"].includes(stateOf(policy)) || isSilent(model, now)) return "bad";
  if (["confirming", "proving", "switching"].includes(policy.state)) return "busy";
  if (policy.trouble || last.verdict === "failed" || last.verdict === "inconclusive") return "bad";
  if (policy.desired === "safe" || ["held", "locked"].includes(policy.state) || last.verdict === "suspect") return "warn";
  return "good";
}

/** Whether probes should have come, and have not: the watchdog's own fault, whatever the last one showed. */
export function isSilent(model, now) {
  const { every_s = 10, deadline_s = 2 } = model.probe ?? {};
  return now - (model.last?.public?.sent_at ?? now) > 3 * every_s + deadline_s + 5;
}

export function seconds(value) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return "0 ms";
  if (value < 0.001) return `${digits(value * 1e6)} µs`;
  return value < 1 ? `${digits(value * 1e3)} ms` : `${digits(value)} s`;
}

export function span(value) {
  const s = Math.max(0, value);
  if (s < 1) return "under 1 s";
  if (s < 90) return `${Math.floor(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}

export const ago = (value) => (value < 1 ? "just now" : `${span(value)} ago`);

/** Three significant digits. */
export function digits(value) {
  if (value === null || value === undefined) return "not a number";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) {
    const [mantissa, exponent] = value.toExponential(1).split("e");
    return `${mantissa} × 10${[...exponent.replace("+", "")].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")}`;
  }
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

export function bytes(value) {
  if (value === null || value === undefined) return "unknown";
  return value >= 2 ** 30 ? `${digits(value / 2 ** 30)} GiB` : `${digits(value / 2 ** 20)} MiB`;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/** Local time; with the date where that is another day. */
export function clock(at) {
  const when = new Date(at * 1000), today = new Date().toDateString() === when.toDateString();
  const time = when.toLocaleTimeString("en-GB", CLOCK);
  return today ? time : `${when.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

export const utc = (at) => `${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** `wrong-version` → `wrong version`. */
export const plain = (name) => String(name).replaceAll("-", " ").replaceAll("_", " ");

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
