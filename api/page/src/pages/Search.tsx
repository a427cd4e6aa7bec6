// Where else in the archive a voice speaks.
import { useEffect, useState } from "preact/hooks";

import { voices } from "../api/calls";
import type { RecordingFound, SearchAnswer } from "../api/types";
import { useTitle } from "../lib/hooks";
import { useProbe } from "../lib/probe";
import { to } from "../lib/router";
import { clock, cosine, count, counted, decisionWords, evidence, lasting, placeName } from "../lib/words";
import { Empty, Failure, Field, Loading, PlayStretch, Warnings } from "../parts/Basics";
import { useAsked } from "../parts/Gallery";
import { Link } from "../parts/Link";
import { PageHead } from "../parts/PageHead";
import { InspectedProbe } from "../parts/Probe";
import { RecordingInput } from "../parts/RecordingInput";
import { NotWithThisKey, useSession } from "../parts/Session";
import { stretchOf } from "../parts/Stretches";

const MOST = 100;
const NEAREST = 25;

export function Search() {
  useTitle("Search the archive");
  const { name: gallery, known } = useAsked();
  const [label, setLabel] = useState("");
  const [from, setFrom] = useState("");
  const [until, setUntil] = useState("");
  const [nearest, setNearest] = useState(false);
  const { file, answer, error, busy, give, ask } = useProbe((given, signal) => {
    const asked = {
      label: label.split(",").map((one) => one.trim()).filter(Boolean),
      recorded_from: from && new Date(from).toISOString(),
      recorded_until: until && dayAfter(until),
      top_k: nearest ? NEAREST : null,
      limit: MOST,
    };
    return voices.search(gallery, given, asked, signal);
  });
  useEffect(() => void ask(), [file]);

  return (
    <>
      <PageHead
        title="Search the archive"
        lead={`Where does this voice speak? ${known ? `${counted(known.recordings, "recording")}, ${lasting(known.duration_s)}.` : ""}`}
      />
      <form
        class="ask-row"
        onSubmit={(event) => {
          event.preventDefault();
          void ask();
        }}
      >
        <div class="stack">
          <RecordingInput file={file} disabled={busy} onFile={give} />
          {file && (
            <div class="card">
              <InspectedProbe file={file} />
            </div>
          )}
        </div>
        <div class="options">
          <Field name="Labels" hint="Only recordings with all of these, separated by commas">
            <input value={label} onInput={(event) => setLabel(event.currentTarget.value)} />
          </Field>
          <div class="two">
            <Field name="Recorded from">
              <input type="date" value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
            </Field>
            <Field name="until">
              <input type="date" value={until} onInput={(event) => setUntil(event.currentTarget.value)} />
            </Field>
          </div>
          <label class="check">
            <input type="checkbox" checked={nearest} onChange={(event) => setNearest(event.currentTarget.checked)} />
            Show the nearest stretches, however far they are
          </label>
          <button class="button primary" disabled={busy || file === null}>
            {busy ? "Searching…" : "Search"}
          </button>
        </div>
      </form>
      <Failure error={error} />
      {file === null && known?.recordings === 0 && <EmptyArchive />}
      {file && (
        <section class="answer" aria-label="Answer">
          {busy && <Loading what="Searching" />}
          {answer && <Found answer={answer} gallery={gallery} />}
        </section>
      )}
    </>
  );
}

function EmptyArchive() {
  const session = useSession();
  return (
    <Empty icon="recordings" title="The archive is empty">
      <p>Take recordings in first: a folder of them, or one by one.</p>
      {session.may("write") ? (
        <a class="button primary" href={to("jobs", [], { start: "yes" })}>
          Take a folder in
        </a>
      ) : (
        <NotWithThisKey />
      )}
    </Empty>
  );
}

function Found({ answer, gallery }: { answer: SearchAnswer; gallery: string }) {
  const { tone } = decisionWords(answer.decision);
  return (
    <>
      <div class={`verdict tone-${tone}`} role="status">
        <p class="verdict-words">{verdict(answer)}</p>
        {answer.eligible !== null && <p>{`${counted(answer.eligible, "utterance")} fit the filter and were compared.`}</p>}
        <p class="hint">{`Decided at: ${answer.operating_point.asked}`}</p>
        <Warnings items={[...answer.issues, ...answer.warnings]} />
      </div>
      {answer.recordings.length > 0 && (
        <ul class="card hits" aria-label="Recordings">
          {answer.recordings.map((one) => (
            <Hit key={one.recording_id} hit={one} gallery={gallery} threshold={answer.operating_point.score_threshold} />
          ))}
        </ul>
      )}
    </>
  );
}

function Hit({ hit, gallery, threshold }: { hit: RecordingFound; gallery: string; threshold: number | null }) {
  const session = useSession();
  const below = threshold !== null && hit.score < threshold;
  return (
    <li class="hit">
      <div class="hit-head">
        <Link look="hit-name ellipsis" href={to("recordings", [hit.recording_id])}>
          {placeName(hit.uri)}
        </Link>
        <span class="hint">
          {hit.speakers.length ? `enrolled as ${hit.speakers.join(", ")}` : "enrolled as nobody"}
          {below && " · below the threshold"}
        </span>
        <span class="hint number end">
          {hit.llr === null ? `score ${cosine(hit.score)}` : `${evidence(hit.llr)} · score ${cosine(hit.score)}`}
        </span>
      </div>
      <ul class="chips" aria-label={`Stretches in ${placeName(hit.uri)}`}>
        {hit.stretches.map((one) => (
          <li key={`${one.channel ?? ""}:${one.start_s}`} class="chip">
            {session.may("read") && (
              <PlayStretch
                source={stretchOf(gallery, { recording_id: hit.recording_id, ...one })}
                name={`${placeName(hit.uri)} from ${clock(one.start_s)} to ${clock(one.end_s)}`}
              />
            )}
            <span class="number">{`${clock(one.start_s)}–${clock(one.end_s)}`}</span>
            <span class="hint number">{cosine(one.score)}</span>
          </li>
        ))}
      </ul>
      {hit.truncated && <p class="hint">{`The best ${hit.stretches.length} stretches; there are more.`}</p>}
    </li>
  );
}

function verdict(answer: SearchAnswer): string {
  if (answer.decision === "not_enough_speech") {
    return `Too little speech to search: ${lasting(answer.speech_s)} were heard, ${lasting(answer.needed_s)} are needed`;
  }
  if (answer.decision === "not_found") {
    return answer.recordings.length ? "Not found; these are the nearest" : "This voice is not in the archive";
  }
  return `Found in ${counted(answer.found, "recording")}${answer.found > answer.recordings.length ? `, the best ${count(answer.recordings.length)} shown` : ""}`;
}

function dayAfter(day: string): string {
  const date = new Date(day);
  date.setDate(date.getDate() + 1);
  return date.toISOString();
}
