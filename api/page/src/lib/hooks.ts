// Loading and doing: the two things that every page does with the service.
import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

export interface Loaded<Value> {
  data: Value | null;
  error: Error | null;
  loading: boolean;
  reload: () => void;
}

/** Load something again whenever `deps` change; what was asked before is broken off. */
export function useLoad<Value>(load: (signal: AbortSignal) => Promise<Value>, deps: readonly unknown[]): Loaded<Value> {
  const [state, setState] = useState<Omit<Loaded<Value>, "reload">>({ data: null, error: null, loading: true });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    latest
      .current(abort.signal)
      .then((data) => {
        if (!abort.signal.aborted) setState({ data, error: null, loading: false });
      })
      .catch((error: unknown) => {
        if (!abort.signal.aborted) setState({ data: null, error: asError(error), loading: false });
      });
    return () => abort.abort();
  }, [...deps, turn]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, reload };
}

export interface Doing<Arguments extends unknown[], Value> {
  run: (...given: Arguments) => Promise<Value | null>;
  busy: boolean;
  error: Error | null;
}

/** Do something once at a time; the error of the last try is kept until the next one. */
export function useDo<Arguments extends unknown[], Value>(
  work: (...given: Arguments) => Promise<Value>,
): Doing<Arguments, Value> {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const latest = useRef(work);
  latest.current = work;
  const running = useRef(false);
  const run = useCallback(async (...given: Arguments): Promise<Value | null> => {
    if (running.current) return null;
    running.current = true;
    setBusy(true);
    setError(null);
    try {
      return await latest.current(...given);
    } catch (failure) {
      setError(asError(failure));
      return null;
    } finally {
      running.current = false;
      setBusy(false);
    }
  }, []);
  return { run, busy, error };
}

/** A value that stands still for a moment before it is used: what somebody types. */
export function useSettled<Value>(value: Value, afterMs = 250): Value {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), afterMs);
    return () => clearTimeout(timer);
  }, [value, afterMs]);
  return settled;
}

/** Name the tab of the browser for what is shown. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · voxdex`;
  }, [title]);
}

/** How wide something is now, in pixels; for what is drawn to measure. */
export function useWidth(box: RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(WIDTH);
  useLayoutEffect(() => {
    const { current } = box;
    if (current === null) return undefined;
    const measure = () => setWidth(current.clientWidth || WIDTH);
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(current);
    return () => watch.disconnect();
  }, []);
  return width;
}

const WIDTH = 640;

/** Whatever was thrown, as an error with words. */
export function asError(failure: unknown): Error {
  return failure instanceof Error ? failure : new Error(String(failure));
}
