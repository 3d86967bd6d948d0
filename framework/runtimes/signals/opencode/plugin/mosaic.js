// Tells the host-agent what OpenCode does. Loaded for one session, from the folder that OPENCODE_CONFIG_DIR names.
import { report } from "../../mosaic-report.mjs";

export const MosaicSignals = async () => {
  let busy = false;
  let error = "";
  const children = new Set(); // sessions of sub-agents: their turns are not the seat's

  const named = (model) => (model?.modelID ? `${model.providerID}/${model.modelID}` : "");

  const on = {
    "session.created": ({ info }) => {
      if (info?.parentID) children.add(info.id);
    },
    "session.status": ({ sessionID, status }) => {
      if (status?.type === "busy" && !busy) {
        busy = true;
        void report("busy", { session: sessionID });
      } else if (status?.type === "retry") {
        void report("retry", { session: sessionID, error: status.message ?? "" });
      }
    },
    "session.error": (failed) => {
      if (failed.error?.name !== "MessageAbortedError") error = failed.error?.data?.message ?? failed.error?.name ?? "";
    },
    "session.idle": ({ sessionID }) => {
      if (!busy && !error) return;
      void report("idle", { session: sessionID, stop: error ? "error" : "stop", error });
      busy = false;
      error = "";
    },
    "permission.asked": (asked) => {
      void report("permission_asked", { session: asked.sessionID, permission: asked.permission });
    },
    "permission.replied": (replied) => {
      void report("permission_replied", { session: replied.sessionID });
    },
  };

  return {
    event: async ({ event }) => {
      const facts = event.properties ?? {};
      const asks = event.type.startsWith("permission.") || event.type === "session.created";
      if (asks || !children.has(facts.sessionID)) on[event.type]?.(facts);
    },
    "chat.message": async (input, output) => {
      if (children.has(input.sessionID)) return;
      const parts = (output.parts ?? []).filter((part) => part.type === "text").map((part) => part.text);
      void report("message", { session: input.sessionID, model: named(input.model), prompt: parts.join("\n") });
    },
    "tool.execute.after": async () => {
      void report("tool_done");
    },
  };
};
