// Things that are done one after the other, however many are given at once.
import { useCallback, useRef, useState } from "preact/hooks";

import { asError } from "./hooks";

export interface Turned<Given, Made> {
  given: Given;
  made: Made | null;
  error: Error | null;
}

export interface InTurn<Given, Made> {
  /** How many are not done yet. */
  waiting: number;
  done: Turned<Given, Made>[];
  add: (given: Given) => void;
}

/** Do each as soon as the one before is done; one that fails does not keep the others back. */
export function useInTurn<Given, Made>(work: (given: Given) => Promise<Made>): InTurn<Given, Made> {
  const [waiting, setWaiting] = useState(0);
  const [done, setDone] = useState<Turned<Given, Made>[]>([]);
  const last = useRef<Promise<void>>(Promise.resolve());
  const latest = useRef(work);
  latest.current = work;
  const add = useCallback((given: Given) => {
    setWaiting((before) => before + 1);
    last.current = last.current
      .then(() => latest.current(given))
      .then((made): Turned<Given, Made> => ({ given, made, error: null }))
      .catch((failure: unknown): Turned<Given, Made> => ({ given, made: null, error: asError(failure) }))
      .then((turned) => {
        setDone((before) => [...before, turned]);
        setWaiting((before) => before - 1);
      });
  }, []);
  return { waiting, done, add };
}
