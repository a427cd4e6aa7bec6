// One sound at a time: whoever begins to play silences the one before.
import { useEffect, useState } from "preact/hooks";

import { ask } from "../api/http";

interface Player {
  pause: () => void;
}

let speaking: Player | null = null;

/** State that a player begins. */
export function speaks(player: Player): void {
  if (speaking !== player) speaking?.pause();
  speaking = player;
}

const audio = new Audio();
audio.preload = "none";
let shown: { source: string; state: "loading" | "playing" | "failed"; why?: string } | null = null;
const watchers = new Set<() => void>();

function tell(next: typeof shown): void {
  shown = next;
  for (const watcher of watchers) watcher();
}

audio.addEventListener("playing", () => shown && tell({ ...shown, state: "playing" }));
audio.addEventListener("ended", () => tell(null));
audio.addEventListener("pause", () => shown?.state === "playing" && tell(null));
audio.addEventListener("error", () => {
  if (shown === null) return;
  const { source } = shown;
  // The element does not say why; the service does.
  void ask(source)
    .then(() => "this browser cannot play it")
    .catch((error: unknown) => (error instanceof Error ? error.message : String(error)))
    .then((why) => shown?.source === source && tell({ source, state: "failed", why }));
});

/** Play a stretch that the service sends, or stop it. */
export function toggle(source: string): void {
  if (shown?.source === source && shown.state !== "failed") {
    audio.pause();
    tell(null);
    return;
  }
  speaks(audio);
  tell({ source, state: "loading" });
  audio.src = source;
  audio.play().catch(() => undefined); // The event `error` tells it, and a stop right after is none.
}

/** What a stretch does now. */
export function usePlaying(source: string): { state: "still" | "loading" | "playing" | "failed"; why: string | null } {
  const [, setTurn] = useState(0);
  useEffect(() => {
    const watcher = () => setTurn((turn) => turn + 1);
    watchers.add(watcher);
    return () => {
      watchers.delete(watcher);
      if (shown?.source === source) {
        audio.pause();
        shown = null;
      }
    };
  }, [source]);
  if (shown?.source !== source) return { state: "still", why: null };
  return { state: shown.state, why: shown.why ?? null };
}
