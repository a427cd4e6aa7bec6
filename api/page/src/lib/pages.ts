// Lists that come in pages: what was read so far, and how to read on.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import type { Page } from "../api/types";
import { asError } from "./hooks";

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

export function usePages<Item>(
  load: (cursor: string | null, signal: AbortSignal) => Promise<Page<Item>>,
  deps: readonly unknown[],
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

  const read = useCallback(async (from: string | null) => {
    const { signal } = abort.current;
    setLoading(true);
    setError(null);
    try {
      const page = await latest.current(from, signal);
      if (signal.aborted) return;
      setItems((before) => (from === null ? page.items : [...before, ...page.items]));
      setCursor(page.next_cursor);
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
    void read(null);
    const { current } = abort;
    return () => current.abort();
  }, [...deps, turn]);

  const more = useCallback(() => void read(cursor), [cursor, read]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { items, cursor, loading, known, error, more, reload };
}
