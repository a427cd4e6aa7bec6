// The small things that pages are made of.
import { cloneElement, type ComponentChildren, type VNode } from "preact";
import { useId } from "preact/hooks";

import { Problem } from "../api/http";
import type { Decision } from "../api/types";
import { toggle, usePlaying } from "../lib/playing";
import { count, decisionWords, type Tone } from "../lib/words";
import { Icon, type IconName } from "./Icon";

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge tone-${tone}`}>{children}</span>;
}

export function DecisionBadge({ decision }: { decision: Decision }) {
  const { words, tone } = decisionWords(decision);
  return <Badge tone={tone}>{words}</Badge>;
}

/** What went wrong, in the words of the service. */
export function Failure({ error, retry }: { error: Error | null; retry?: () => void }) {
  if (error === null) return null;
  const id = error instanceof Problem ? error.requestId : null;
  return (
    <div class="notice tone-bad" role="alert">
      <Icon name="warning" />
      <div>
        <p>{error.message}</p>
        {id && <p class="hint">{`Request ${id}`}</p>}
      </div>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** What makes an answer less sure than it looks; what is said of the recording and of the answer is said once. */
export function Warnings({ items }: { items: readonly string[] }) {
  if (items.length === 0) return null;
  return (
    <ul class="warnings" aria-label="Warnings">
      {[...new Set(items)].map((item) => (
        <li key={item}>
          <Icon name="warning" size={16} />
          <span>{item}</span>
        </li>
      ))}
    </ul>
  );
}

/** Nothing here yet, and what to do about it; `alone` where it is the whole page. */
export function Empty(shown: { icon: IconName; title: string; alone?: boolean; children?: ComponentChildren }) {
  const { icon, title, alone, children } = shown;
  return (
    <div class="empty">
      <Icon name={icon} size={32} />
      {alone ? <h1>{title}</h1> : <h2>{title}</h2>}
      {children}
    </div>
  );
}

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <p class="loading" role="status">
      <span class="spinner" aria-hidden="true" />
      {`${what}…`}
    </p>
  );
}

/** Plays a stretch that the service sends. */
export function PlayStretch({ source, name, wide }: { source: string; name: string; wide?: string }) {
  const { state, why } = usePlaying(source);
  const playing = state === "playing" || state === "loading";
  return (
    <>
      <button
        type="button"
        class={wide ? "button" : "button round small"}
        aria-label={`${playing ? "Stop" : "Play"} ${name}`}
        aria-busy={state === "loading"}
        onClick={() => toggle(source)}
      >
        <Icon name={playing ? "stop" : "play"} size={16} />
        {wide}
      </button>
      {state === "failed" && (
        <span class="hint tone-text-bad" role="alert">
          {why}
        </span>
      )}
    </>
  );
}

/** A figure with its name. */
export function Figure({ name, children, hint }: { name: string; children: ComponentChildren; hint?: string | undefined }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>
        <span class="number">{children}</span>
        {hint && <span class="hint">{hint}</span>}
      </dd>
    </div>
  );
}

interface InField {
  id?: string;
  "aria-describedby"?: string;
}

/** A control with its name above and what it means below. */
export function Field({ name, hint, children }: { name: string; hint?: string; children: VNode<InField> }) {
  const id = useId();
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  return (
    <div class="field">
      <label class="field-name" for={id}>
        {name}
      </label>
      {cloneElement(children, { id, ...described })}
      {hint && (
        <span class="hint" id={`${id}-hint`}>
          {hint}
        </span>
      )}
    </div>
  );
}

/** The next rows of a list that comes in pages. */
export function More(list: { cursor: string | null; busy: boolean; shown: number; onMore: () => void }) {
  const { cursor, busy, shown, onMore } = list;
  if (cursor === null) return null;
  return (
    <div class="more">
      <p class="hint number" role="status">{`${count(shown)} shown`}</p>
      <button type="button" class="button" disabled={busy} onClick={onMore}>
        {busy ? "Loading…" : "Show more"}
      </button>
    </div>
  );
}
