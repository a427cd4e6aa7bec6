// How far a job is, as a word and as a bar.
import type { Job } from "../api/types";
import { isOver } from "../lib/events";
import { count, lasting, type Tone } from "../lib/words";
import { Badge } from "./Basics";

const STATES: Record<Job["state"], { words: string; tone: Tone }> = {
  queued: { words: "waiting", tone: "none" },
  planning: { words: "being listed", tone: "busy" },
  running: { words: "running", tone: "busy" },
  succeeded: { words: "done", tone: "good" },
  succeeded_with_errors: { words: "done, some files failed", tone: "maybe" },
  failed: { words: "failed", tone: "bad" },
  canceled: { words: "stopped", tone: "none" },
};

export function JobBadge({ state }: { state: Job["state"] }) {
  return <Badge tone={STATES[state].tone}>{STATES[state].words}</Badge>;
}

/** How far a job is: done, failed, and what is to come. */
export function Progress({ job }: { job: Job }) {
  const settled = job.done + job.duplicate + job.failed;
  const all = Math.max(job.found, 1);
  const share = (files: number) => `${((files / all) * 100).toFixed(2)}%`;
  return (
    <div class="progress">
      {job.found > 0 && (
        <div
          class="progress-bar"
          role="progressbar"
          aria-label={`Job ${job.id}`}
          aria-valuemin={0}
          aria-valuemax={job.found}
          aria-valuenow={settled}
          aria-valuetext={`${count(settled)} of ${count(job.found)}`}
        >
          <div class="band-good" style={{ width: share(job.done) }} />
          <div class="band-none" style={{ width: share(job.duplicate) }} />
          <div class="band-bad" style={{ width: share(job.failed) }} />
        </div>
      )}
      <p class="hint number">{inWords(job, settled)}</p>
    </div>
  );
}

/** Whether a job groups unknown voices rather than taking files in. */
export function isGrouping(job: Job): boolean {
  return job.kind === "cluster";
}

/** Whether `voxdex ingest` works through a job in a process of its own, which the service cannot stop nor take up. */
export function isOfCommand(job: Job): boolean {
  return job.kind === "ingest";
}

export function jobName(job: Job): string {
  return isGrouping(job) ? "Look for unknown voices" : job.source;
}

function inWords(job: Job, settled: number): string {
  const things = isGrouping(job) ? "recordings" : "files";
  const said = [`${count(settled)} of ${count(job.found)}${job.planned ? "" : " or more"} ${things}`];
  if (job.duplicate) said.push(`${count(job.duplicate)} already there`);
  if (job.failed) said.push(`${count(job.failed)} failed`);
  if (job.audio_s) said.push(`${lasting(job.audio_s)} of audio`);
  if (!isOver(job) && job.times_real_time > 0) said.push(`${job.times_real_time.toFixed(1)} times real time`);
  if (!isOver(job) && job.eta_s !== null) said.push(`${lasting(Math.ceil(job.eta_s))} left`);
  return said.join(" · ");
}
