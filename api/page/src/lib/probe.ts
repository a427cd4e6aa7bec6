// A recording that is asked about, and the newest answer.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { asError } from "./hooks";

export interface Probe<Answer> {
  file: File | null;
  answer: Answer | null;
  error: Error | null;
  busy: boolean;
  /** Take another recording; what was said of the one before is gone. */
  give: (file: File) => void;
  /** Ask about it, as the options are now. */
  ask: () => Promise<void>;
}

interface State<Answer> {
  answer: Answer | null;
  error: Error | null;
  busy: boolean;
}

/** Ask about a recording; asking again, with other options or another recording, breaks off what was asked before. */
export function useProbe<Answer>(asked: (file: File, signal: AbortSignal) => Promise<Answer>): Probe<Answer> {
  const [file, setFile] = useState<File | null>(null);
  const [state, setState] = useState<State<Answer>>({ answer: null, error: null, busy: false });
  const latest = useRef(asked);
  latest.current = asked;
  const under = useRef<AbortController | null>(null);
  useEffect(() => () => under.current?.abort(), []);

  const give = useCallback((given: File) => {
    under.current?.abort();
    setFile(given);
    setState({ answer: null, error: null, busy: false });
  }, []);
  const ask = useCallback(async () => {
    if (file === null) return;
    under.current?.abort();
    const own = new AbortController();
    under.current = own;
    const told = (next: State<Answer>) => {
      if (!own.signal.aborted) setState(next);
    };
    told({ answer: null, error: null, busy: true });
    try {
      told({ answer: await latest.current(file, own.signal), error: null, busy: false });
    } catch (failure) {
      told({ answer: null, error: asError(failure), busy: false });
    }
  }, [file]);
  return { file, ...state, give, ask };
}
