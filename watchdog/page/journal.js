// The journal as a timeline: what was decided, done, commanded and told, in sentences.

import { ask } from "./ask.js";
import { h, mark, say } from "./dom.js";
import { moment, sign } from "./marks.js";
import { STATES, capital, plain } from "./words.js";

const FEW = 200, MOST = 1000;
const KINDS = {
  all: ["Everything", () => true],
  decisions: ["Decisions", (kind) => kind === "decision"],
  switches: ["Switches", (kind) => kind === "intent" || kind === "outcome"],
  commands: ["Commands and hooks", (kind) => kind === "command" || kind === "hook"],
  notices: ["Notices", (kind) => kind === "notice"],
};

export class Journal {
  constructor(root) {
    [this.list, this.kind, this.note, this.more] = ["journal", "journal-kind", "journal-note", "journal-more"].map((id) =>
      root.getElementById(id));
    this.kind.append(...Object.entries(KINDS).map(([key, [name]]) => h("option", { value: key }, name)));
    this.kind.addEventListener("change", () => this.#filter());
    this.more.addEventListener("click", () => this.#showMore());
    this.newest = 0;
    this.limit = FEW;
  }

  /** Fetches what has come since the last time. */
  async update() {
    try {
      const { entries } = await ask(`api/v1/journal?limit=${this.limit}&after=${this.newest}`);
      this.#add(entries);
      this.note.hidden = this.list.children.length > 0;
      say(this.note, "Nothing is recorded yet.");
    } catch (error) {
      this.note.hidden = false;
      say(this.note, `The journal could not be read: ${error.message}.`);
    }
  }

  /** Begins anew, such as after a restart with another journal. */
  clear() {
    this.newest = 0;
    this.list.replaceChildren();
  }

  #add(entries) {
    if (!entries.length) return;
    if (this.newest === 0) this.more.hidden = entries.length < FEW || this.limit === MOST;
    this.newest = entries[0].seq;
    const keep = KINDS[this.kind.value][1];
    this.list.prepend(...entries.map((entry) => line(entry, keep)));
    while (this.list.children.length > MOST) this.list.lastElementChild.remove();
  }

  #filter() {
    const keep = KINDS[this.kind.value][1];
    for (const item of this.list.children) item.hidden = !keep(item.dataset.kind);
  }

  async #showMore() {
    this.limit = MOST;
    this.more.hidden = true;
    this.clear();
    await this.update();
    this.list.focus();
  }
}

function line(entry, keep) {
  const [tone, ...said] = sentence(entry.kind, entry.data);
  const item = h("li", { "data-kind": entry.kind, hidden: !keep(entry.kind) },
    moment(entry.at), sign(tone),
    h("div", {}, entry.model ? h("span", { class: "of" }, entry.model) : null, h("span", { class: "words" }, said)));
  mark(item, "title", `entry ${entry.seq}, ${entry.kind}`);
  return item;
}

const share = (percent) => (percent === 100 || percent === undefined ? "all traffic" : `${percent} % of the traffic`);
const OF_STATE = {
  "serving-fast": "good", probation: "good", "serving-safe": "warn", recovering: "warn", returning: "warn",
  held: "warn", degraded: "bad", blind: "bad", locked: "bad",
};

/** An entry as a tone and what is said. */
function sentence(kind, data) {
  switch (kind) {
    case "decision": {
      const after = data.after?.state ?? "";
      const moved = data.before === after ? "" : `${STATES[after] ?? capital(plain(after))}. `;
      return [OF_STATE[after] ?? "busy", moved ? h("b", {}, moved) : "", capital(data.detail ?? "")];
    }
    case "intent":
      return ["busy", `About to give the ${data.to} engine ${share(data.percent)}.`];
    case "outcome":
      return data.proven
        ? ["good", h("b", {}, `The ${data.to} engine has ${share(data.percent)}, proven. `), capital(data.detail)]
        : ["bad", h("b", {}, `The switch to the ${data.to} engine ${data.applied ? "is not proven" : "was not done"}. `), capital(data.detail)];
    case "command":
      return ["busy", h("b", {}, `${data.actor} commanded ${data.command}`), data.why ? `: ${data.why}` : ""];
    case "notice": {
      const what = { first: "", repeat: " again", resolved: " that it is over" }[data.kind] ?? "";
      const tone = !data.delivered ? "bad" : data.kind === "resolved" ? "good" : "warn";
      return [tone, h("b", {}, data.delivered ? `${data.channel} was told${what}: ` : `${data.channel} could not be told${what}: `),
        `${data.summary} (${data.alert})${data.delivered ? "" : `: ${data.detail}`}`];
    }
    case "started":
      return ["busy", `The watchdog ${data.version ?? ""} started.`];
    case "stopped":
      return ["busy", "The watchdog stopped."];
    case "hook":
      return ["busy", h("b", {}, `${data.actor} called ${data.hook ?? ""}: `), String(data.text ?? data.answer ?? "")];
    default:
      return ["unknown", h("b", {}, `${capital(plain(kind))}. `),
        Object.entries(data).map(([key, value]) => `${plain(key)} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ")];
  }
}
