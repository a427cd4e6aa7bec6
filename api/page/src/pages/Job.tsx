// One job, live: how far it is, what failed and why.
import { useEffect, useRef, useState } from "preact/hooks";

import { jobs } from "../api/calls";
import type { Job, JobItem, NewJob } from "../api/types";
import { isOver, useElapsed, useLive } from "../lib/events";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { go, to } from "../lib/router";
import { at, cosine, count, counted, evidence, lasting, placeName, type Tone } from "../lib/words";
import { Badge, Failure, Figure, Loading } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { useGalleries } from "../parts/Gallery";
import { isGrouping, isOfCommand, JobBadge, jobName, Progress } from "../parts/JobProgress";
import { Listed } from "../parts/Listed";
import { PageHead } from "../parts/PageHead";
import { useSession } from "../parts/Session";

const ROWS = 50;

export function JobPage({ id }: { id: number }) {
  useTitle(`Job ${id}`);
  const shown = useLoad((signal) => jobs.show(id, signal), [id]);
  if (shown.error) return <Failure error={shown.error} retry={shown.reload} />;
  if (shown.data === null) return <Loading />;
  return <Shown loaded={shown.data} reload={shown.reload} />;
}

function Shown({ loaded, reload }: { loaded: Job; reload: () => void }) {
  const job = useLive(loaded);
  const session = useSession();
  const { reload: recount } = useGalleries();
  const [stopping, setStopping] = useState(false);
  const over = isOver(job);
  // What was pressed to stop or try again goes away: whoever uses the keyboard finds themselves at the progress.
  const progress = useRef<HTMLElement>(null);
  const pressed = useRef(false);
  const elapsed = useElapsed(job);
  // What was shown when it was asked to try again: the job as it is loaded after that has something to say of it.
  const [tried, setTried] = useState<Tried | null>(null);
  const retrying = useDo(async (item?: JobItem) => {
    setTried({ before: loaded, failed: job.failed, item });
    await jobs.retry(job.id, item?.id);
    pressed.current = true;
    reload();
  });
  const again = useDo(async () => {
    const next = await jobs.start(job.gallery, sameAgain(job));
    go(to("jobs", [next.id]));
  });
  useEffect(() => {
    if (over) recount();
    if (pressed.current && document.activeElement === document.body) progress.current?.focus({ preventScroll: true });
    pressed.current = false;
  }, [over]);
  const stopped = () => {
    pressed.current = true;
    reload();
  };
  const mayChange = session.may("write") && !isOfCommand(job);
  const mayRetry = mayChange && (job.state === "failed" || job.state === "succeeded_with_errors");
  return (
    <>
      <p class="crumbs">
        <a href={to("jobs")}>Jobs</a>
      </p>
      <PageHead title={`Job ${job.id}`} lead={<span class="break">{jobName(job)}</span>}>
        {mayChange && !over && (
          <button type="button" class="button danger" onClick={() => setStopping(true)}>
            Stop
          </button>
        )}
        {mayRetry && (
          <button type="button" class="button" disabled={retrying.busy} onClick={() => void retrying.run()}>
            {job.failed > 0 ? "Try failed files again" : "Try again"}
          </button>
        )}
        {mayChange && job.state === "canceled" && !isGrouping(job) && (
          <button type="button" class="button" disabled={again.busy} onClick={() => void again.run()}>
            Take the rest in
          </button>
        )}
      </PageHead>
      <Failure error={retrying.error ?? again.error} />
      <p class="hint" role="status">
        {tried !== null && tried.before !== loaded && retryWords(job, tried)}
      </p>
      <section class="card" aria-label="Progress" tabIndex={-1} ref={progress}>
        <div class="card-head" role="status">
          <JobBadge state={job.state} />
          <span class="out-of-sight">{`${count(job.done)} of ${count(job.found)} files done`}</span>
        </div>
        {job.error && <p class="tone-text-bad">{job.error}</p>}
        <Progress job={job} />
        <dl class="figures">
          <Figure name="Started">{at(job.started_at)}</Figure>
          <Figure name={over ? "Took" : "Runs for"}>{lasting(Math.round(elapsed))}</Figure>
          {!isGrouping(job) && <OfFiles job={job} />}
        </dl>
        {isOfCommand(job) && <p class="hint">{commandWords(job)}</p>}
        {isGrouping(job) && over && (
          <p>
            <a href={to("unknown")}>See the unknown voices</a>
          </p>
        )}
      </section>
      {over && !isGrouping(job) && !isOfCommand(job) && <TwoNames job={job} />}
      {!isGrouping(job) && <Items job={job} onRetry={mayRetry ? (item) => void retrying.run(item) : null} />}
      {stopping && <StopJob job={job} onClose={() => setStopping(false)} onDone={stopped} />}
    </>
  );
}

/** A job that asks for the same: what is in already is passed over. */
function sameAgain(job: Job): NewJob {
  const { source, speaker_from, channels, speakers, speech, on_duplicate } = job;
  return {
    source,
    kind: job.kind as NonNullable<NewJob["kind"]>,
    speaker_from,
    channels: channels ?? null,
    speakers: speakers ?? null,
    speech: (speech ?? null) as NonNullable<NewJob["speech"]> | null,
    on_duplicate,
  };
}

interface Tried {
  before: Job;
  /** How many files had failed by then. */
  failed: number;
  /** The one file, where not all that had failed were tried. */
  item: JobItem | undefined;
}

function retryWords(job: Job, { failed, item }: Tried): string {
  if (!isOver(job)) return "Tried again…";
  if (item !== undefined) return `Tried again: ${placeName(item.uri)} ${job.failed < failed ? "did not fail" : "failed again"}.`;
  if (job.state === "failed") return "Tried again: it failed again.";
  return job.failed ? `Tried again: ${counted(job.failed, "file")} failed again.` : "Tried again: nothing failed.";
}

/** What can be done about a job that a command runs by itself. */
function commandWords(job: Job): string {
  if (!isOver(job)) return "`voxdex ingest` runs it: Ctrl-C there stops it.";
  if (job.state === "succeeded") return "`voxdex ingest` ran it.";
  return "`voxdex ingest` ran it: run the same command again, it goes on where it stopped and tries what failed.";
}

function OfFiles({ job }: { job: Job }) {
  return (
    <>
      <Figure name="Audio">{lasting(job.audio_s)}</Figure>
      <Figure name="Speech in it">{lasting(job.speech_s)}</Figure>
      <Figure name="Pace">{job.times_real_time ? `${job.times_real_time.toFixed(1)} × real time` : "–"}</Figure>
      <Figure name="Speakers from">{job.speaker_from === "none" ? "not known" : job.speaker_from}</Figure>
    </>
  );
}

/** Speakers of the job who sound like others; nothing where nobody does. */
function TwoNames({ job }: { job: Job }) {
  const found = useLoad((signal) => jobs.sameVoices(job.id, signal), [job.id, job.finished_at]);
  if (found.error) return <Failure error={found.error} retry={found.reload} />;
  if (found.data === null || found.data.items.length === 0) return null;
  const { items, compared, complete } = found.data;
  return (
    <section class="card" aria-label="One voice under two names">
      <h2>One voice under two names?</h2>
      <p class="hint">Listen to both, and merge them on the page of one where they are one person.</p>
      <ul class="plain-list">
        {items.map((two) => (
          <li key={`${two.speaker}\n${two.other}`}>
            <a href={to("speakers", [two.speaker])}>{two.speaker}</a>
            {" sounds like "}
            <a href={to("speakers", [two.other])}>{two.other}</a>
            <span class="hint">{`: cosine ${cosine(two.score)}${two.llr === null ? "" : `, ${evidence(two.llr)}`}`}</span>
          </li>
        ))}
      </ul>
      {!complete && <p class="hint">{`Only the first ${count(compared)} speakers of the job were compared.`}</p>}
    </section>
  );
}

const ITEMS: Record<JobItem["state"], { words: string; tone: Tone }> = {
  queued: { words: "waits", tone: "none" },
  running: { words: "running", tone: "busy" },
  done: { words: "done", tone: "good" },
  duplicate: { words: "already there", tone: "none" },
  failed: { words: "failed", tone: "bad" },
};

const NOTICED = "noticed";

function Items({ job, onRetry }: { job: Job; onRetry: ((item: JobItem) => void) | null }) {
  const [state, setState] = useState("failed");
  // What failed is listed anew whenever another file has; of the others it is enough to look when asked. A retry that
  // ends as the run before it did has an end of its own, and may have other reasons.
  const found = usePages(
    (cursor, signal) => {
      const wanted = state === NOTICED ? { noticed: true } : { state };
      return jobs.items(job.id, { ...wanted, cursor, limit: ROWS }, signal);
    },
    [job.id, state, state === "failed" ? job.failed : job.state, job.finished_at],
  );
  return (
    <>
      <div class="row section">
        <h2>Files</h2>
        <label class="field inline end">
          <span class="out-of-sight">Which files</span>
          <select value={state} onChange={(event) => setState(event.currentTarget.value)}>
            <option value="failed">failed</option>
            <option value="done">done</option>
            <option value="duplicate">already there</option>
            <option value={NOTICED}>with a notice</option>
            <option value="">all</option>
          </select>
        </label>
      </div>
      <Listed found={found} empty={<p class="muted">{state === "failed" ? noneFailed(job) : "No such file."}</p>}>
        <ul class="card hits" aria-label="Files">
          {found.items.map((one) => (
            <li class="hit" key={one.id}>
              <div class="hit-head">
                {one.recording_id ? (
                  <a class="hit-name" href={to("recordings", [one.recording_id])} title={one.uri}>
                    {placeName(one.uri)}
                  </a>
                ) : (
                  <span class="hit-name" title={one.uri}>
                    {placeName(one.uri)}
                  </span>
                )}
                <Badge tone={ITEMS[one.state].tone}>{ITEMS[one.state].words}</Badge>
                {one.speaker && <span class="hint">{one.speaker}</span>}
                {onRetry && one.state === "failed" && (
                  <button type="button" class="button end" aria-label={`Try ${placeName(one.uri)} again`} onClick={() => onRetry(one)}>
                    Try again
                  </button>
                )}
              </div>
              {one.error_message && <p class="hint break">{one.error_message}</p>}
              {one.notice && <p class="hint break">{one.notice}</p>}
            </li>
          ))}
        </ul>
      </Listed>
    </>
  );
}

function noneFailed(job: Job): string {
  return isOver(job) ? "No file failed." : "No file has failed so far.";
}

function StopJob({ job, onClose, onDone }: { job: Job; onClose: () => void; onDone: () => void }) {
  const stopping = useDo(async () => {
    await jobs.cancel(job.id);
    onClose();
    onDone();
  });
  return (
    <Dialog title={`Stop job ${job.id}`} onClose={onClose}>
      <p>What was taken in so far stays. The rest can be taken in by another job of the same source, which goes on where this one stopped.</p>
      <Failure error={stopping.error} />
      <div class="dialog-foot">
        <button type="button" class="button" onClick={onClose}>
          Let it run
        </button>
        <button type="button" class="button danger" disabled={stopping.busy} onClick={() => void stopping.run()}>
          Stop the job
        </button>
      </div>
    </Dialog>
  );
}
