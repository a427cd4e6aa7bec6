// Ranked candidates of one voice, and what they sound like beside it.
import { useState } from "preact/hooks";

import type { BestEnrollment, Candidate, OperatingPoint } from "../api/types";
import { bandOn, scaleOf, valueOn } from "../lib/evidence";
import { to } from "../lib/router";
import { clock, cosine, counted, decimal, evidence, percent, placeName } from "../lib/words";
import { Link } from "./Link";
import { Probe } from "./Probe";
import { ScoreBar, ScoreLegend } from "./ScoreBar";
import { useSession } from "./Session";
import { stretchOf, Stretches } from "./Stretches";
import { Waveform, type Marked } from "./Waveform";

interface Shown {
  gallery: string;
  candidates: readonly Candidate[];
  point: OperatingPoint;
  /** The recording that is asked about, and where this voice speaks in it. */
  probe: Probed;
}

interface Probed {
  file: File;
  marks: readonly Marked[];
}

export function Candidates({ gallery, candidates, point, probe }: Shown) {
  const scale = scaleOf(point, candidates);
  if (candidates.length === 0) return <p class="muted">Nobody is enrolled who could be compared.</p>;
  return (
    <>
      <ol class="candidates" aria-label="Candidates">
        {candidates.map((one) => (
          <CandidateRow
            key={one.speaker}
            gallery={gallery}
            candidate={one}
            scale={scale}
            band={bandOn(scale, valueOn(scale, one))}
            probe={probe}
          />
        ))}
      </ol>
      <ScoreLegend scale={scale} />
    </>
  );
}

interface Row {
  gallery: string;
  candidate: Candidate;
  scale: ReturnType<typeof scaleOf>;
  band: string;
  probe: Probed;
}

const BANDS: Record<string, string> = { good: "above the threshold", maybe: "possible", none: "below the threshold" };

function CandidateRow({ gallery, candidate, scale, band, probe }: Row) {
  const session = useSession();
  const [listening, setListening] = useState(false);
  const best = candidate.best_enrollments;
  return (
    <li class="candidate">
      <span class="rank number" aria-hidden="true">
        {candidate.rank}
      </span>
      <div class="candidate-name">
        <Link href={to("speakers", [candidate.speaker])}>{candidate.speaker}</Link>
        <span class="hint">
          {candidate.llr === null ? `score ${cosine(candidate.score)}` : evidence(candidate.llr)}
          <span class="out-of-sight">{`, ${BANDS[band]}`}</span>
        </span>
      </div>
      <ScoreBar scale={scale} measured={candidate} />
      <dl class="candidate-figures number">
        <div>
          <dt>score</dt>
          <dd>{cosine(candidate.score)}</dd>
        </div>
        {candidate.llr !== null && (
          <div>
            <dt>llr</dt>
            <dd>{decimal(candidate.llr)}</dd>
          </div>
        )}
        {candidate.posterior !== null && (
          <div>
            <dt>probability</dt>
            <dd>{percent(candidate.posterior)}</dd>
          </div>
        )}
      </dl>
      {session.may("read") && (
        <button
          type="button"
          class="button quiet"
          disabled={best.length === 0}
          aria-expanded={listening}
          aria-label={`${listening ? "Close" : "Listen to"} ${candidate.speaker}`}
          onClick={() => setListening(!listening)}
        >
          {listening ? "Close" : "Listen"}
        </button>
      )}
      {listening && <Beside gallery={gallery} best={best} speaker={candidate.speaker} probe={probe} />}
    </li>
  );
}

/** The probe and the stretch that it resembles most, one beside the other. */
function Beside(shown: { gallery: string; best: readonly BestEnrollment[]; speaker: string; probe: Probed }) {
  const { gallery, best, speaker, probe } = shown;
  const [first, ...others] = best;
  if (first === undefined) return null;
  return (
    <div class="beside">
      <div class="beside-half">
        <h3>This recording</h3>
        <Probe file={probe.file} marks={probe.marks} small />
      </div>
      <div class="beside-half">
        <h3>
          {`${speaker}, best match`}
          <span class="hint number">{` score ${cosine(first.score)}`}</span>
        </h3>
        <Waveform source={stretchOf(gallery, first)} label={`${speaker}'s best match`} height={44}>
          <a class="hint ellipsis" href={to("recordings", [first.recording_id])}>
            {`${placeName(first.uri)} · ${clock(first.start_s)}–${clock(first.end_s)}`}
          </a>
        </Waveform>
      </div>
      {others.length > 0 && (
        <Stretches
          gallery={gallery}
          items={others}
          called={`${counted(others.length, "more stretch", "more stretches")} of ${speaker}`}
        />
      )}
    </div>
  );
}
