// Archives that are taken in: started, watched, stopped, tried again.
import { useState } from "preact/hooks";

import { jobs } from "../api/calls";
import type { Job, NewJob } from "../api/types";
import { useLive } from "../lib/events";
import { useDo, useTitle } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { go, to, useRoute } from "../lib/router";
import { at } from "../lib/words";
import { Empty, Failure, Field } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { useGallery } from "../parts/Gallery";
import { Icon } from "../parts/Icon";
import { JobBadge, jobName, Progress } from "../parts/JobProgress";
import { Listed } from "../parts/Listed";
import { PageHead } from "../parts/PageHead";
import { NotWithThisKey, useSession } from "../parts/Session";
import { JobPage } from "./Job";

const ROWS = 20;

export function Jobs({ rest }: { rest: string[] }) {
  const id = Number(rest[0]);
  return Number.isInteger(id) && id > 0 ? <JobPage id={id} key={id} /> : <List />;
}

function List() {
  useTitle("Jobs");
  const gallery = useGallery();
  const session = useSession();
  const route = useRoute();
  const [starting, setStarting] = useState(route.query.has("start") && session.may("write"));
  const found = usePages((cursor, signal) => jobs.list(gallery.name, { cursor, limit: ROWS }, signal), [gallery.name], {
    main: true,
  });
  const start = session.may("write") && (
    <button type="button" class="button primary" onClick={() => setStarting(true)}>
      <Icon name="plus" />
      Take an archive in
    </button>
  );
  return (
    <>
      <PageHead title="Jobs" lead={`Archives that are taken into ${gallery.name}, the newest first`}>
        {start}
      </PageHead>
      <Listed
        found={found}
        empty={
          <Empty icon="jobs" title="No archive was taken in yet">
            <p>A job takes in every recording of a folder, a manifest or a bucket, and goes on where it was stopped.</p>
            {start || <NotWithThisKey />}
          </Empty>
        }
      >
        <ul class="card hits" aria-label="Jobs">
          {found.items.map((one) => (
            <JobRow key={one.id} job={one} />
          ))}
        </ul>
      </Listed>
      {starting && (
        <Dialog
          title="Take an archive in"
          onClose={() => {
            setStarting(false);
            if (route.query.has("start")) go(to("jobs"));
          }}
        >
          <StartForm gallery={gallery.name} />
        </Dialog>
      )}
    </>
  );
}

function JobRow({ job }: { job: Job }) {
  const live = useLive(job);
  return (
    <li class="hit">
      <div class="hit-head">
        <a class="hit-name" href={to("jobs", [live.id])}>
          {jobName(live)}
        </a>
        <JobBadge state={live.state} />
        <span class="hint number end">{at(live.created_at)}</span>
      </div>
      <Progress job={live} />
    </li>
  );
}

const DUPLICATES: { value: NonNullable<NewJob["on_duplicate"]>; words: string }[] = [
  { value: "skip", words: "keep what is there" },
  { value: "relabel", words: "take over speaker, time and labels of this job" },
  { value: "error", words: "count it as failed" },
];

function StartForm({ gallery }: { gallery: string }) {
  const [source, setSource] = useState("");
  const [speakers, setSpeakers] = useState("none");
  const [pattern, setPattern] = useState("");
  const [duplicate, setDuplicate] = useState(DUPLICATES[0]?.value ?? "skip");
  const starting = useDo(async () => {
    const job = await jobs.start(gallery, {
      source: source.trim(),
      speaker_from: speakers === "regex" ? `regex:${pattern}` : speakers,
      on_duplicate: duplicate,
    });
    go(to("jobs", [job.id]));
  });
  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        void starting.run();
      }}
    >
      <Field
        name="Folder or manifest"
        hint="A folder, or a CSV or JSON-lines manifest, as the machine of the service sees it; or an address (s3://, gs://, https://)."
      >
        <input required value={source} spellcheck={false} placeholder="/archive/2026" onInput={(event) => setSource(event.currentTarget.value)} />
      </Field>
      <Field name="Who speaks" hint="A manifest says so itself.">
        <select value={speakers} onChange={(event) => setSpeakers(event.currentTarget.value)}>
          <option value="none">not known: nobody is enrolled</option>
          <option value="parent:1">the folder that the file is in</option>
          <option value="parent:2">the folder above that</option>
          <option value="regex">a pattern of the file's path</option>
        </select>
      </Field>
      {speakers === "regex" && (
        <Field name="Pattern" hint="Its group `speaker`, or its first, is the name.">
          <input required value={pattern} spellcheck={false} placeholder="([^/]+)_\d+\.wav$" onInput={(event) => setPattern(event.currentTarget.value)} />
        </Field>
      )}
      <Field name="A recording that is there already">
        <select value={duplicate} onChange={(event) => setDuplicate(event.currentTarget.value as typeof duplicate)}>
          {DUPLICATES.map((one) => (
            <option key={one.value} value={one.value}>
              {one.words}
            </option>
          ))}
        </select>
      </Field>
      <Failure error={starting.error} />
      <div class="dialog-foot">
        <button class="button primary" disabled={starting.busy || source.trim() === ""}>
          {starting.busy ? "Starting…" : "Start"}
        </button>
      </div>
    </form>
  );
}
