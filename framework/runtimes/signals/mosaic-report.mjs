// Gives events of a runtime that runs JavaScript to the host-agent, without a process for each: one at a time, in their
// order, never throwing. What cannot be delivered goes to the session's spool (see hostagent/mosaic_hostagent/reporter.py).
import fs from "node:fs";
import net from "node:net";

const PATIENCE_MS = 2000;
const PAYLOAD_LIMIT = 1024 * 1024;
const SPOOL_LIMIT = 16 * 1024 * 1024;

let last = Promise.resolve("");

/** Report one event; resolves to what the host-agent answers, "" for nothing. Never rejects. */
export function report(event, payload = {}) {
  if (!process.env.MOSAIC_AGENT_SOCKET) return Promise.resolve("");
  const now = BigInt(Date.now()) * 1000000n + (process.hrtime.bigint() % 1000000n);
  const token = String(process.env.MOSAIC_AGENT_TOKEN ?? "").replace(/[^0-9a-f]/g, "");
  const head = `{"token": "${token}", "event": "${event}", "id": "${process.pid}-${now}", "at_ns": ${now}}`;
  let body = "";
  try {
    body = JSON.stringify(payload) ?? "";
  } catch {
    body = ""; // an event that cannot be written down still happened
  }
  if (body.length > PAYLOAD_LIMIT) body = "";
  last = last.then(() => deliver(head, body).catch(() => spool(head, body)));
  return last;
}

function deliver(head, body) {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = net.connect({ path: `${process.env.MOSAIC_AGENT_SOCKET}.report`, allowHalfOpen: true });
    const timer = setTimeout(() => socket.destroy(new Error("no answer")), PATIENCE_MS);
    timer.unref?.();
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.end(`${head}\n${body}`));
    socket.on("data", (part) => (answer += part));
    socket.on("error", reject);
    socket.on("close", () => {
      clearTimeout(timer);
      if (!answer || answer.startsWith("later")) return reject(new Error("no answer"));
      const at = answer.indexOf("\n");
      resolve(answer.startsWith("ok\n") ? answer.slice(at + 1) : "");
    });
  });
}

function spool(head, body) {
  try {
    const path = process.env.MOSAIC_REPORT_SPOOL;
    const size = fs.existsSync(path) ? fs.statSync(path).size : 0;
    if (size < SPOOL_LIMIT) {
      fs.appendFileSync(path, `${head}\t${Buffer.from(body).toString("base64")}\n`, { mode: 0o600 });
    }
  } catch {
    // There is nobody left to tell, and the work of the agent goes on.
  }
  return "";
}
