// Tells the host-agent what pi does, and takes its messages. Loaded for one session, by `pi -e`.
import { openLetterbox } from "./mosaic-letterbox.mjs";
import { report } from "./mosaic-report.mjs";

export default function (pi: any) {
  const facts = (context: any) => ({
    session: context?.sessionManager?.getSessionId?.() ?? "",
    model: named(context?.model),
  });
  const named = (model: any) => (model?.id ? `${model.provider}/${model.id}` : "");

  let close = () => {};
  const look = (context: any) => ({
    idle: context.isIdle(),
    refuses: context.model ? "" : "it has no model: choose one in its terminal",
  });
  const give = (context: any) => (message: any) => {
    const now = look(context);
    if (now.refuses) return now.refuses;
    if (message.only_idle && !now.idle) return "it works, and this waits until it is idle";
    pi.sendUserMessage(message.text, { deliverAs: "steer" });
    return "";
  };

  pi.on("session_start", async (event: any, context: any) => {
    close();
    close = openLetterbox(() => look(context), give(context));
    void report("session_start", { ...facts(context), reason: event.reason });
  });
  pi.on("input", async (event: any, context: any) => {
    void report("input", { ...facts(context), prompt: event.text });
  });
  pi.on("agent_start", async (_event: any, context: any) => {
    void report("agent_start", facts(context));
  });
  pi.on("tool_execution_end", async () => {
    void report("tool_execution_end");
  });
  pi.on("agent_end", async (event: any, context: any) => {
    const newest = [...(event.messages ?? [])].reverse().find((one: any) => one.role === "assistant");
    const detail = { stop: newest?.stopReason ?? "", error: newest?.errorMessage ?? "" };
    void report("agent_end", { ...facts(context), ...detail });
  });
  pi.on("model_select", async (event: any, context: any) => {
    void report("model_select", { ...facts(context), model: named(event.model) });
  });
  pi.on("session_shutdown", async (event: any, context: any) => {
    close();
    await report("session_shutdown", { ...facts(context), reason: event.reason });
  });
}
