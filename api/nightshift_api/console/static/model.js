// What the page says of a batch, worked out of the object that the API gives. Pure.

export const NAMES = ["cast.ai/batch-name", "batch-name"];
export const ACTIVE = ["validating", "in_progress", "finalizing", "cancelling"];
const ENDS = { completed: "completed_at", failed: "failed_at", expired: "expired_at", cancelled: "cancelled_at" };

export const STATUS = {
  validating: { label: "Validating", tone: "wait", means: "The input file is being checked." },
  in_progress: { label: "In progress", tone: "run", means: "Requests are being sent to the model." },
  finalizing: { label: "Finalizing", tone: "run", means: "Every request has its outcome; the files are being written." },
  completed: { label: "Completed", tone: "good", means: "Every request has its outcome, and the files are final." },
  failed: { label: "Failed", tone: "bad", means: "Nothing ran, or it could not go on." },
  expired: { label: "Expired", tone: "warn", means: "The time was over first; what was done is kept." },
  cancelling: { label: "Cancelling", tone: "wait", means: "It is being stopped; what was done is kept." },
  cancelled: { label: "Cancelled", tone: "off", means: "It was stopped; what was done is kept." },
};

export const isEnded = (batch) => batch.status in ENDS;
export const nameOf = (batch) => batch.x_details?.name ?? NAMES.map((key) => batch.metadata?.[key]).find(Boolean) ?? null;

export function factsOf(batch, now) {
  const more = batch.x_details ?? {};
  const { total, completed, failed } = batch.request_counts;
  const endedAt = batch[ENDS[batch.status]] ?? null;
  const startedAt = more.started_at ?? batch.in_progress_at;
  const isOver = isEnded(batch);
  const ran = startedAt === null ? null : Math.max(0, (endedAt ?? now) - startedAt);
  const remaining = isOver && batch.status === "completed" ? 0 : (more.remaining ?? Math.max(0, total - completed - failed));
  return {
    name: nameOf(batch),
    isOver,
    total,
    completed,
    failed,
    remaining,
    startedAt,
    endedAt,
    durationS: isOver ? (more.duration_s ?? ran) : ran,
    etaS: isOver ? null : (more.eta_s ?? null),
    rate: isOver ? null : (more.rate ?? null),
    averageRate: isOver && ran ? (completed + failed) / ran : null,
    gpuType: more.gpu_type ?? null,
    instanceType: more.instance_type ?? null,
    gpuSeconds: more.gpu_seconds ?? null,
    cost: more.cost ?? null,
    attempt: more.attempt ?? 0,
    failedAttempts: more.failed_attempts ?? 0,
    conditions: more.conditions ?? [],
    isSuspended: more.suspended ?? false,
    rerunOf: more.rerun_of ?? null,
    reused: more.reused ?? 0,
    resource: more.resource ?? null,
    usage: batch.usage,
    perRequest: batch.usage && completed ? batch.usage.total_tokens / completed : null,
  };
}

export function stepsOf(batch) {
  const end = isEnded(batch) ? batch.status : batch.status === "cancelling" ? "cancelled" : "completed";
  const steps = [
    ["Created", batch.created_at],
    ["Started", batch.in_progress_at],
    ["Finalizing", batch.finalizing_at],
    ["Cancel asked", batch.cancelling_at],
    [STATUS[end].label, batch[ENDS[end]]],
  ];
  const hidden = (label, at) => at === null && (isEnded(batch) || label === "Cancel asked");
  return steps.filter(([label, at]) => !hidden(label, at)).map(([label, at]) => ({ label, at }));
}

// Reasons of conditions (docs/conditions.md) that hold a batch up.
export const REASONS = {
  Inspecting: "The input is being checked",
  Starting: "The processor is starting",
  NoNode: "Waiting for a node that can take it",
  ImagePull: "An image cannot be pulled",
  OutOfMemory: "Out of memory",
  Misconfigured: "Something it needs is missing",
  ModelLoading: "The model is loading",
  ModelCrashed: "The model server keeps ending",
  Crashed: "The processor has crashed and is started again",
  WaitingForBatch: "Waiting for the batch that it runs again",
  WaitingForQuota: "Waiting for quota",
  ModelMissing: "Its model is gone",
  Suspended: "Suspended",
  OffPeak: "Waiting for off-peak hours",
  Retrying: "It is tried again",
};

// What keeps a batch from going on, as its conditions have it; null for one that goes on.
export function waitOf(batch, facts) {
  if (facts.isOver || batch.status === "cancelling") return null;
  const pill = { label: facts.isSuspended ? "Suspended" : "Waiting", tone: "wait" };
  if (facts.isSuspended) return { pill, title: "Suspended", text: "Nothing runs until it is resumed. Its 24 hours go on." };
  const told = facts.conditions.find(({ reason, status }) => status !== "True" && reason in REASONS);
  if (!told) return null;
  return { pill: batch.status === "in_progress" ? pill : null, title: REASONS[told.reason], text: told.message, since: told.last_transition_time };
}

// Errors by their code, the most frequent first.
export function groupErrors(errors) {
  const groups = new Map();
  for (const { code, message, where } of errors) {
    const group = groups.get(code) ?? { code, message, count: 0, where: [] };
    group.count += 1;
    if (group.where.length < 3) group.where.push(where);
    groups.set(code, group);
  }
  return [...groups.values()].sort((a, b) => b.count - a.count);
}

export function validationErrors(batch) {
  const found = batch.errors?.data ?? [];
  return found.map(({ code, message, line, param }) => ({
    code,
    message,
    where: [line && `line ${line}`, param].filter(Boolean).join(", ") || "the file",
  }));
}

export function lineError(line) {
  const error = line.error ?? line.response?.body?.error ?? {};
  const code = error.code ?? line.response?.status_code ?? "unknown";
  return { code: String(code), message: String(error.message ?? "No message."), where: String(line.custom_id) };
}

// What a model has answered, as text.
export function answerOf(line) {
  const body = line.response?.body ?? {};
  const text =
    body.choices?.[0]?.message?.content ??
    body.choices?.[0]?.text ??
    body.output?.flatMap((part) => part.content ?? []).find((part) => part.text)?.text;
  if (typeof text === "string") return text;
  const vector = body.data?.[0]?.embedding;
  if (vector) return Array.isArray(vector) ? `A vector of ${vector.length} numbers` : "A vector, encoded in Base64";
  return JSON.stringify(body);
}

export function matches(batch, { status, search }) {
  const words = [nameOf(batch), batch.model, batch.id, batch.x_details?.resource?.name].join("\n").toLowerCase();
  return (!status.length || status.includes(batch.status)) && words.includes(search.toLowerCase());
}
