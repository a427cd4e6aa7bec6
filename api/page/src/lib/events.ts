// A job as it goes on, without loading anything again.
import { useEffect, useState } from "preact/hooks";

import { jobs } from "../api/calls";
import type { Job } from "../api/types";

const OVER = new Set<Job["state"]>(["succeeded", "succeeded_with_errors", "failed", "canceled"]);

export function isOver(job: Pick<Job, "state">): boolean {
  return OVER.has(job.state);
}

/** The newest state of a job: what was loaded, until the service tells something newer; loaded again, watched again. */
export function useLive(loaded: Job): Job {
  const [told, setTold] = useState<Job>(loaded);
  // Not by its state: a job that was watched to its end and is tried again was never loaded as one that is over.
  useEffect(() => {
    setTold(loaded);
    if (isOver(loaded)) return undefined;
    const events = new EventSource(jobs.events(loaded.id));
    const take = (event: MessageEvent<string>) => setTold(JSON.parse(event.data) as Job);
    events.addEventListener("progress", take);
    events.addEventListener("end", (event) => {
      take(event as MessageEvent<string>);
      events.close(); // Or the browser would come again.
    });
    return () => events.close();
  }, [loaded]);
  return told;
}

/** Seconds that a job has run: those it told, and those since. */
export function useElapsed(job: Job): number {
  const [since, setSince] = useState(0);
  const runs = !isOver(job) && job.started_at !== null;
  useEffect(() => {
    setSince(0);
    if (!runs) return undefined;
    const began = performance.now();
    const timer = setInterval(() => setSince((performance.now() - began) / 1000), TICK_MS);
    return () => clearInterval(timer);
  }, [job, runs]);
  return job.elapsed_s + since;
}

const TICK_MS = 1000;
