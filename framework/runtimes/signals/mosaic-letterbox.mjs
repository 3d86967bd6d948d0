// Takes messages for a runtime that runs JavaScript, without keystrokes: one a connection, at the unix socket that
// MOSAIC_LETTERBOX names (see hostagent/mosaic_hostagent/letterbox.py for the lines). Never throws into the runtime.
import fs from "node:fs";
import net from "node:net";

const PATIENCE_MS = 5000;
const TEXT_LIMIT = 4 * 1024 * 1024;

/**
 * Listen. `look()` returns {idle, refuses}: whether the runtime is idle, and why it would take no message ("": it would).
 * `give({id, text, only_idle})` gives it one, and returns why it did not take it, "" when it has it.
 */
export function openLetterbox(look, give) {
  const path = process.env.MOSAIC_LETTERBOX;
  if (!path || Buffer.byteLength(path) > 100) return () => {};
  const server = net.createServer((socket) => serve(socket, look, give));
  server.on("error", () => {}); // then nobody answers there, and messages are typed
  try {
    fs.rmSync(path, { force: true });
    server.listen({ path }, () => {
      try {
        fs.chmodSync(path, 0o600);
      } catch {
        server.close(); // in a folder that is ours alone this cannot be; without it there is no letterbox
      }
    });
    server.unref(); // it keeps no program alive that wants to end
  } catch {
    return () => {};
  }
  return () => server.close();
}

function serve(socket, look, give) {
  let said = "";
  let answered = false;
  socket.setEncoding("utf8");
  socket.setTimeout(PATIENCE_MS, () => socket.destroy());
  socket.on("error", () => {});
  socket.on("data", (part) => {
    if (answered) return;
    said += part;
    const end = said.indexOf("\n");
    if (end < 0) {
      if (said.length > TEXT_LIMIT) socket.destroy();
      return;
    }
    answered = true;
    answer(said.slice(0, end), give).then((line) => socket.end(`${line}\n`));
  });
  try {
    socket.write(`${JSON.stringify({ ready: true, ...look() })}\n`);
  } catch {
    socket.destroy(); // what cannot say how it is takes nothing
  }
}

async function answer(line, give) {
  let message;
  try {
    message = JSON.parse(line);
    if (typeof message?.id !== "string" || typeof message.text !== "string") throw new Error();
  } catch {
    return JSON.stringify({ id: "", refused: "it is no message" });
  }
  try {
    const refused = await give(message);
    return JSON.stringify(refused ? { id: message.id, refused } : { id: message.id, given: true });
  } catch (error) {
    // Nobody knows how far it came: an answer that claims neither.
    return JSON.stringify({ id: message.id, error: String(error?.message ?? error) });
  }
}
