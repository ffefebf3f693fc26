// What is of no one model: alerts, channels, GPUs, and the watchdog itself.

import { h, refill, table } from "./dom.js";
import { moment, sign } from "./marks.js";
import { ago, bytes, count, plain, span } from "./words.js";

/** `told` are the details that stand beside a model's state, and need not be read twice. */
export function showAlerts(list, alerts, told) {
  const isTold = ({ description }) => told.some((detail) => description.includes(detail));
  refill(list, alerts.map((alert) => [alert, isTold(alert)]), () => alerts.map((alert) => h("li", { class: alert.severity },
    sign(alert.severity === "critical" ? "bad" : "warn"),
    h("div", {},
      h("p", {}, h("strong", {}, alert.summary), " ", h("span", { class: "tag" }, alert.severity), " ",
        h("span", { class: "tag" }, alert.alert)),
      alert.description !== alert.summary && !isTold(alert) ? h("p", { class: "note" }, alert.description) : null))));
}

export class Site {
  constructor(root) {
    this.parts = Object.fromEntries(["watchdog", "channels", "gpus"].map((name) => [name, h("div")]));
    const titles = { watchdog: "The watchdog itself", channels: "Channels", gpus: "GPUs" };
    root.append(...Object.entries(this.parts).map(([name, part]) =>
      h("section", { class: "card", "aria-labelledby": `${name}-title` }, h("h2", { id: `${name}-title` }, titles[name]), part)));
  }

  update(status) {
    const now = status.at;
    refill(this.parts.watchdog, facts(status), () => h("dl", { class: "facts" }, facts(status).map(([name, tone, said]) => [
      h("dt", {}, name), h("dd", {}, tone ? sign(tone) : null, said)])));
    refill(this.parts.channels, status.channels.map((c) => [c, Math.floor(now / 5)]), () => channels(status.channels, now));
    refill(this.parts.gpus, status.gpu, () => gpus(status.gpu));
  }
}

function facts({ version, up_s, failure, journal, configuration, traces, starting }) {
  const found = [
    ["Version", "", `${version}, up ${span(up_s)}`],
    ["Watching", starting ? "unknown" : "good", starting ? `not yet: ${starting}` : "all configured models"],
    ["Journal", journal.trouble ? "bad" : "good", journal.trouble ?? "records"],
    ["Configuration", configuration.last_reload_ok ? "good" : "bad",
      configuration.last_reload_ok ? "in force" : "the last reload was refused; the old one goes on"],
    ["Own failures", failure ? "bad" : "good", failure ? failure.error : "none"],
  ];
  const taken = Object.entries(traces ?? {});
  if (taken.length) found.push(["Traces", "", taken.map(([outcome, n]) => `${n.toLocaleString("en")} ${plain(outcome)}`).join(", ")]);
  return found;
}

function channels(queues, now) {
  if (!queues.length) return h("p", { class: "empty" }, "No channel is configured: nobody is told of alerts.");
  return table("Channels and what waits for them", ["channel", "takes notices", "waiting"], queues.map((queue) => [
    queue.channel,
    queue.up === null ? "not tried yet" : h("div", {},
      h("span", { class: "with-sign" }, sign(queue.up ? "good" : "bad"), queue.up ? "yes" : "no",
        ...(queue.delivered_at === null ? [", never yet"] : [", last at ", moment(queue.delivered_at)])),
      queue.up ? null : h("p", { class: "note" }, queue.detail)),
    queue.pending ? `${count(queue.pending, "notice")}, oldest ${ago(now - queue.oldest_at)}` : "nothing",
  ]));
}

function gpus(reading) {
  if (!reading.gpus) return h("p", { class: "empty" }, "Not watched: the configuration has no `gpu`.");
  if (!reading.gpus.length) return h("p", { class: "empty" }, `Cannot be watched: ${reading.detail || plain(reading.state)}.`);
  return table("GPUs", ["GPU", "memory", "busy", "°C", "remarks"], reading.gpus.map((gpu) => [
    gpu.name || gpu.uuid,
    gpu.total_bytes === null ? "unknown" : h("span", {},
      h("progress", { max: gpu.total_bytes, value: gpu.used_bytes ?? 0, "aria-label": "memory used", "aria-valuetext": bytes(gpu.used_bytes) }),
      ` ${bytes(gpu.used_bytes)} of ${bytes(gpu.total_bytes)}`),
    gpu.busy_ratio === null ? "unknown" : `${Math.round(gpu.busy_ratio * 100)} %`,
    gpu.temperature_c === null ? "unknown" : String(Math.round(gpu.temperature_c)),
    remarks(gpu),
  ]));
}

function remarks(gpu) {
  const found = [];
  if (gpu.state !== "up") found.push(`${plain(gpu.state)}: ${gpu.detail}`);
  if (gpu.throttled_by?.length) found.push(`throttled by ${gpu.throttled_by.map(plain).join(", ")}`);
  if (gpu.xids?.length) found.push(`XID ${gpu.xids.join(", ")}`);
  if (gpu.ecc_uncorrected) found.push(count(gpu.ecc_uncorrected, "uncorrected ECC error"));
  return found.length ? h("span", { class: "with-sign" }, sign("warn"), found.join("; ")) : "none";
}
