// Commands: a dialog asks for the reason, the token and a confirmation, and shows what came of it.
// The token is kept in this page's memory, and nowhere else.

import { NoAnswer, command, randomKey } from "./ask.js";
import { h, say } from "./dom.js";
import { sign } from "./marks.js";
import { STATES, capital, plain } from "./words.js";

const LONGEST = 500;

export const ACTIONS = {
  look: {
    name: "Look now", title: "Ask canaries about both engines of",
    says: "Both engines get canaries at once. The watchdog then decides as always, which may move traffic.",
  },
  rollback: {
    name: "Roll back", title: "Move to the safe engine:",
    says: "The safe engine is proven first; then it gets all traffic, until somebody promotes the fast one.",
  },
  promote: {
    name: "Promote", title: "Return to the fast engine:",
    says: "The fast engine is proven first. If it is not right it gets nothing; if it fails later, it is moved back.",
  },
  hold: {
    name: "Hold", title: "Hold",
    says: "Nothing is moved until somebody releases it, whatever happens. Probing and alerting go on.",
  },
  release: {
    name: "Release", title: "Release",
    says: "The watchdog may move traffic again.",
  },
};

const memory = { token: "", actor: "" };

/** Opens the dialog for one action on one model; `done` is called when the watchdog has answered. */
export function act(dialog, model, name, done) {
  new Act(dialog, model, name, done).open();
}

class Act {
  constructor(dialog, model, name, done) {
    Object.assign(this, { dialog, model, name, done, action: ACTIONS[name], key: null, sent: "" });
  }

  open() {
    const { action, model } = this;
    this.why = h("input", { id: "why", required: true, maxlength: String(LONGEST), autocomplete: "off" });
    this.actor = h("input", { id: "actor", maxlength: String(LONGEST), autocomplete: "name", value: memory.actor });
    this.token = h("input", { id: "token", type: "password", required: true, autocomplete: "off" });
    this.remembered = h("p", { class: "note" }, "The token that you gave is used. ",
      h("button", { type: "button", class: "link", onclick: () => this.#askForToken() }, "Give another"));
    this.tokenField = h("p", { class: "field" }, h("label", { for: "token" }, "Token"), this.token,
      h("small", {}, "A line of the file api.token.file. It is kept in this tab’s memory only."));
    this.said = h("div", { class: "said", role: "status" });
    this.confirm = h("button", { type: "submit", class: "primary" }, `Yes, ${action.name.toLowerCase()}`);
    this.close = h("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, "Cancel");
    this.dialog.replaceChildren(
      h("form", { method: "dialog", onsubmit: (event) => this.#submit(event) },
        h("h2", { id: "dialog-title" }, `${action.title} ${model}`), h("p", {}, action.says),
        h("p", { class: "field" }, h("label", { for: "why" }, "Reason, for the journal"), this.why),
        h("p", { class: "field" }, h("label", { for: "actor" }, "Your name (may be left out)"), this.actor),
        this.tokenField, this.remembered, this.said,
        h("div", { class: "buttons" }, this.close, this.confirm)));
    this.#showToken(!memory.token);
    this.dialog.showModal();
    this.why.focus();
  }

  #askForToken() {
    memory.token = "";
    this.#showToken(true);
    this.token.focus();
  }

  #showToken(wanted) {
    this.tokenField.hidden = !wanted;
    this.token.required = wanted;
    this.remembered.hidden = wanted;
  }

  async #submit(event) {
    event.preventDefault();
    memory.token = this.token.value.trim() || memory.token;
    memory.actor = this.actor.value.trim();
    const wish = { actor: memory.actor, why: this.why.value.trim() };
    if (!wish.why) return this.#tell("warn", "Write a reason: whoever reads the journal wants to know.");
    const body = JSON.stringify(wish);
    if (body !== this.sent) [this.key, this.sent] = [randomKey(), body]; // the same wish again is carried out once
    this.confirm.disabled = true;
    this.#tell("busy", "Asked. This may take as long as an engine takes to load …");
    try {
      this.#answered(await command(this.model, this.name, wish, { token: memory.token, key: this.key }));
    } catch (error) {
      this.#failed(error);
    }
  }

  #answered(answer) {
    const { done, decisions, gate, fast_percent: share } = answer;
    this.#tell(done ? "good" : "warn", done ? "Done." : "Not done.",
      h("p", {}, `${STATES[gate.state] ?? plain(gate.state)}. The fast engine gets ${share} % of ordinary traffic. ${capital(gate.detail)}`),
      h("ol", { class: "decisions" }, decisions.map((d) => h("li", {},
        h("b", {}, d.before === d.after ? `${plain(d.after)}, as before` : `${plain(d.before)} → ${plain(d.after)}`),
        ` ${d.detail}`))));
    this.confirm.hidden = true;
    for (const field of [this.why, this.actor]) field.disabled = true;
    this.tokenField.hidden = this.remembered.hidden = true;
    say(this.close, "Close");
    this.close.focus();
    this.done();
  }

  #failed(error) {
    this.confirm.disabled = false;
    if (error.status === 401) {
      this.#askForToken();
      return this.#tell("bad", "This token is not valid. Nothing was done.");
    }
    if (error instanceof NoAnswer) {
      const advice = "Whether it was done is not known. Send it again: the same wish is carried out once only.";
      return this.#tell("bad", `The watchdog gave ${error.message}. ${advice}`);
    }
    return this.#tell("bad", `Refused: ${error.message}`);
  }

  #tell(tone, text, ...more) {
    this.said.replaceChildren(h("p", { class: `verdict ${tone}` }, sign(tone), text), ...more);
  }
}
