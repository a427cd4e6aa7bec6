// What a gallery has a list of: narrowed by what somebody types and by one more choice, and added to.
import { useEffect, useState } from "preact/hooks";

import type { Page } from "../api/types";
import { useGalleries, useGallery } from "../parts/Gallery";
import { useSession } from "../parts/Session";
import { useSettled } from "./hooks";
import { usePages, type Pages } from "./pages";
import { go, instead, to, useRoute } from "./router";

const ROWS = 50;

export interface Narrowed {
  q: string;
  choice: string;
  cursor: string | null;
  limit: number;
}

export interface Collection<Item> extends Pages<Item> {
  typed: string;
  setTyped: (typed: string) => void;
  choice: string;
  setChoice: (choice: string) => void;
  narrowed: boolean;
  showAll: () => void;
  /** Whether the dialog is open that adds to it; only for keys that may. */
  adding: boolean;
  add: () => void;
  added: () => void;
}

/** A list of a page of its own. Its address says how it is narrowed, so that coming back finds it as it was, and can ask
 * for the dialog for adding, as in `#/speakers?enroll`. */
export function useCollection<Item>(
  page: string,
  opens: string,
  load: (gallery: string, narrowed: Narrowed, signal: AbortSignal) => Promise<Page<Item>>,
): Collection<Item> {
  const gallery = useGallery();
  const { reload: recount } = useGalleries();
  const session = useSession();
  const route = useRoute();
  const [typed, setTyped] = useState(route.query.get("q") ?? "");
  const [choice, setChoice] = useState(route.query.get("only") ?? "");
  const [adding, setAdding] = useState(route.query.has(opens) && session.may("write"));
  const q = useSettled(typed.trim());
  useEffect(() => {
    setTyped(route.query.get("q") ?? "");
    setChoice(route.query.get("only") ?? "");
  }, [route]);
  useEffect(() => instead(to(page, [], { ...(q && { q }), ...(choice && { only: choice }) })), [q, choice]);
  const found = usePages(
    (cursor, signal) => load(gallery.name, { q, choice, cursor, limit: ROWS }, signal),
    [gallery.name, q, choice],
    { main: true },
  );
  return {
    ...found,
    typed,
    setTyped,
    choice,
    setChoice,
    narrowed: q !== "" || choice !== "",
    showAll: () => {
      setTyped("");
      setChoice("");
    },
    adding,
    add: () => setAdding(true),
    added: () => {
      setAdding(false);
      found.reload();
      recount();
      if (route.query.has(opens)) go(to(page));
    },
  };
}
