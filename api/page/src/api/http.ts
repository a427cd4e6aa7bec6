// One way to ask the service: same origin, cookie, plain words where something goes wrong.
import type { ProblemDocument } from "./types";

/** What the service refused, or that it did not answer. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly requestId: string | null;

  constructor(said: Pick<ProblemDocument, "code" | "status" | "detail" | "request_id" | "errors">) {
    super(inWords(said));
    this.code = said.code;
    this.status = said.status;
    this.requestId = said.request_id ?? null;
  }
}

function inWords(said: Pick<ProblemDocument, "detail" | "errors">): string {
  const fields = (said.errors ?? []).map((field) => `${field.location.split(".").pop()}: ${field.message}`);
  return fields.length ? `${said.detail} (${fields.join("; ")})` : said.detail;
}

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

/** Write a path of the API: every segment encoded, what is empty left out of the query. */
export function path(segments: readonly (string | number)[], query: Query = {}): string {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "" || value === false) continue;
    if (Array.isArray(value)) for (const one of value) asked.append(name, String(one));
    else asked.set(name, String(value));
  }
  const place = `/v1/${segments.map((segment) => encodeURIComponent(String(segment))).join("/")}`;
  return asked.size ? `${place}?${asked}` : place;
}

let onSignedOut: () => void = () => undefined;

/** State what is done when the service no longer knows who asks. */
export function whenSignedOut(then: () => void): void {
  onSignedOut = then;
}

interface Asked {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  json?: unknown;
  form?: FormData;
  signal?: AbortSignal;
  /** Whether sending it twice must not do it twice. */
  once?: boolean;
}

/** Ask, and return the answer as it came. */
export async function ask(place: string, { method = "GET", json, form, signal, once }: Asked = {}): Promise<Response> {
  // A page of another site cannot set a header of its own: the service asks for this one beside the cookie.
  const headers: Record<string, string> = { "X-Voxdex-Request": "page", Accept: "application/json" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (once) headers["Idempotency-Key"] = crypto.randomUUID();
  const body = form ?? (json === undefined ? null : JSON.stringify(json));
  let answer: Response;
  try {
    answer = await fetch(place, { method, headers, body, signal: signal ?? null, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem({
      code: "no-answer",
      status: 0,
      detail: "The service does not answer. Is `voxdex serve` still running, and this machine online?",
    });
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

/** Ask for a document. */
export async function get<Document>(place: string, signal?: AbortSignal): Promise<Document> {
  return (await ask(place, signal ? { signal } : {})).json() as Promise<Document>;
}

/** Ask for something to be done; answered with a document. */
export async function send<Document>(
  method: "POST" | "PATCH" | "DELETE",
  place: string,
  asked: Omit<Asked, "method"> = {},
): Promise<Document> {
  return (await ask(place, { method, ...asked })).json() as Promise<Document>;
}

/** Wrap recordings in the form that the service takes. */
export function formOf(files: Record<string, File>): FormData {
  const form = new FormData();
  for (const [field, file] of Object.entries(files)) form.append(field, file, file.name);
  return form;
}

async function problemOf(answer: Response): Promise<Problem> {
  const said = await stated(answer);
  if (answer.status === 401) onSignedOut();
  return new Problem(said);
}

async function stated(answer: Response): Promise<ProblemDocument> {
  try {
    const said = (await answer.json()) as ProblemDocument;
    if (typeof said.detail === "string") return said;
  } catch {
    // A proxy's page, or nothing at all: say at least the number.
  }
  return {
    code: "unexpected",
    title: "Unexpected answer",
    status: answer.status,
    detail: `The service answered ${answer.status} ${answer.statusText} without saying why; its log may tell.`,
  };
}
