// Lists that come in pages: what was read so far, and how to read on.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import type { Page } from "../api/types";
import { asError } from "./hooks";
import { leave, left } from "./router";

const SETTLED_MS = 100;

export interface Pages<Item> {
  items: Item[];
  cursor: string | null;
  loading: boolean;
  /** Whether it was read before: `items` are then of that time, until it is read again. */
  known: boolean;
  error: Error | null;
  more: () => void;
  reload: () => void;
}

/** Read a list page by page, from the start whenever `deps` change. The one list that a page is about is `main`: coming
 * back to it finds it read as far as it was, at the row where one left it. */
export function usePages<Item>(
  load: (cursor: string | null, signal: AbortSignal) => Promise<Page<Item>>,
  deps: readonly unknown[],
  { main = false }: { main?: boolean } = {},
): Pages<Item> {
  const [items, setItems] = useState<Item[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [loading, setLoading] = useState(true);
  const [known, setKnown] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const abort = useRef(new AbortController());

  const first = useRef(true);
  const pagesRead = useRef(0);

  const read = useCallback(async (from: string | null, wanted = 1) => {
    const { signal } = abort.current;
    setLoading(true);
    setError(null);
    try {
      let next = from;
      const found: Item[] = [];
      for (let page = 0; page < wanted && (page === 0 || next !== null); page += 1) {
        const answer: Page<Item> = await latest.current(next, signal);
        if (signal.aborted) return;
        found.push(...answer.items);
        next = answer.next_cursor;
      }
      pagesRead.current = from === null ? wanted : pagesRead.current + wanted;
      if (main) leave({ pages: pagesRead.current });
      setItems((before) => (from === null ? found : [...before, ...found]));
      setCursor(next);
      setKnown(true);
      setLoading(false);
    } catch (failure) {
      if (signal.aborted) return;
      setError(asError(failure));
      setLoading(false);
    }
  }, []);

  useEffect(() => {
    abort.current = new AbortController();
    const { current } = abort;
    const { pages, scroll } = main && first.current ? left() : { pages: 1, scroll: 0 };
    first.current = false;
    void read(null, pages).then(() => {
      // Once the rows are drawn.
      if (scroll > 0 && !current.signal.aborted) requestAnimationFrame(() => window.scrollTo(0, scroll));
    });
    return () => current.abort();
  }, [...deps, turn]);

  useEffect(() => {
    if (!main) return;
    let settling = 0;
    const scrolled = () => {
      window.clearTimeout(settling);
      settling = window.setTimeout(() => leave({ scroll: window.scrollY }), SETTLED_MS);
    };
    window.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      window.removeEventListener("scroll", scrolled);
      window.clearTimeout(settling);
    };
  }, [main]);

  const more = useCallback(() => void read(cursor), [cursor, read]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { items, cursor, loading, known, error, more, reload };
}
