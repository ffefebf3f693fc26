// Talking to the watchdog that served this page. Addresses are relative: it may stand behind a prefix.

const PATIENCE_MS = 4000;
const COMMAND_PATIENCE_MS = 120000; // an engine may have to be loaded first

export class NoAnswer extends Error {}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function fetched(path, options, patience) {
  try {
    const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(patience), ...options });
    const body = await response.json();
    if (response.ok) return body;
    throw new Refused(response.status, String(body.error ?? response.statusText));
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new NoAnswer(error.name === "TimeoutError" ? "no answer in time" : "no answer");
  }
}

export const ask = (path) => fetched(path, {}, PATIENCE_MS);

export const modelPath = (model) => `api/v1/models/${encodeURIComponent(model)}`;

/** Sends a command; the same `key` with the same `wish` is carried out once, however often it is sent. */
export function command(model, name, wish, { token, key }) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}`, "Idempotency-Key": key };
  const options = { method: "POST", headers, body: JSON.stringify(wish) };
  return fetched(`${modelPath(model)}/${name}`, options, COMMAND_PATIENCE_MS);
}

/** 128 random bits. `crypto.randomUUID` is missing where the page came by plain HTTP. */
export function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
