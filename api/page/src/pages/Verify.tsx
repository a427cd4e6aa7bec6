// Whether a recording is of the speaker it claims to be.
import { useState } from "preact/hooks";

import { voices } from "../api/calls";
import type { VerifyAnswer } from "../api/types";
import { scaleOf } from "../lib/evidence";
import { useTitle } from "../lib/hooks";
import { useProbe } from "../lib/probe";
import { cosine, decimal, decisionWords, evidence, lasting, percent } from "../lib/words";
import { Failure, Figure, Loading, Warnings } from "../parts/Basics";
import { Decide } from "../parts/Decide";
import { useAsked } from "../parts/Gallery";
import { PageHead } from "../parts/PageHead";
import { InspectedProbe } from "../parts/Probe";
import { QualityLine } from "../parts/QualityLine";
import { RecordingInput } from "../parts/RecordingInput";
import { ScoreBar } from "../parts/ScoreBar";
import { SpeakerPicker } from "../parts/SpeakerPicker";
import { Stretches } from "../parts/Stretches";

const RATES = [
  { value: "0.0001", words: "at most 0.01 % of strangers accepted" },
  { value: "0.001", words: "at most 0.1 % of strangers accepted" },
  { value: "0.01", words: "at most 1 % of strangers accepted" },
];

export function Verify() {
  useTitle("Verify");
  const { name: gallery } = useAsked();
  const [speaker, setSpeaker] = useState("");
  const [rate, setRate] = useState("");
  const { file, answer, error, busy, give, ask } = useProbe((given, signal) =>
    voices.verify(gallery, speaker.trim(), given, { p_fa: rate, best_enrollments: 4 }, signal),
  );

  return (
    <>
      <PageHead title="Verify" lead="Is this the person they claim to be?" />
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
          <SpeakerPicker gallery={gallery} name="Speaker" value={speaker} onValue={setSpeaker} />
          <Decide rates={RATES} value={rate} onValue={setRate} />
          <button class="button primary" disabled={busy || file === null || speaker.trim() === ""}>
            {busy ? "Listening…" : "Verify"}
          </button>
        </div>
      </form>
      <Failure error={error} />
      {file && (
        <section class="answer" aria-label="Answer">
          {busy && <Loading what="Listening" />}
          {answer && <Verdict answer={answer} gallery={gallery} />}
        </section>
      )}
    </>
  );
}

function Verdict({ answer, gallery }: { answer: VerifyAnswer; gallery: string }) {
  const { words, tone } = decisionWords(answer.decision);
  const scale = scaleOf(answer.operating_point, [{ llr: answer.llr, score: answer.score }]);
  const threshold =
    scale.threshold === null ? "–" : scale.by === "llr" ? `llr ${decimal(scale.threshold)}` : cosine(scale.threshold);
  return (
    <>
      <div class={`verdict tone-${tone}`} role="status">
        <p class="verdict-words">{answer.decision === "not_enough_speech" ? words : `${words}: ${claim(answer)}`}</p>
        <p>{because(answer)}</p>
        <p class="hint">{`Decided at: ${answer.operating_point.asked}`}</p>
        <Warnings items={answer.issues} />
      </div>
      {answer.score !== null && (
        <article class="card">
          <header class="card-head">
            <h2>Evidence</h2>
            {answer.quality && <QualityLine quality={answer.quality} />}
          </header>
          <Warnings items={answer.warnings} />
          <ScoreBar scale={scale} measured={{ llr: answer.llr, score: answer.score }} />
          <dl class="figures">
            <Figure name="Score" hint="cosine, −1 to 1">
              {cosine(answer.score)}
            </Figure>
            <Figure name="Evidence (llr)" hint="0 says nothing">
              {decimal(answer.llr)}
            </Figure>
            <Figure name="Threshold" hint="accepted from here on">
              {threshold}
            </Figure>
            <Figure name="Probability" hint={`if ${percent(answer.operating_point.prior)} likely beforehand`}>
              {percent(answer.posterior)}
            </Figure>
          </dl>
          {answer.best_enrollments.length > 0 && (
            <div>
              <h3>{`What of ${answer.speaker} it resembles most`}</h3>
              <Stretches gallery={gallery} items={answer.best_enrollments} called={`Stretches of ${answer.speaker}`} />
            </div>
          )}
        </article>
      )}
    </>
  );
}

function claim(answer: VerifyAnswer): string {
  return answer.decision === "accept" ? `this is ${answer.speaker}` : `not taken for ${answer.speaker}`;
}

function because(answer: VerifyAnswer): string {
  if (answer.decision === "not_enough_speech") {
    return `${lasting(answer.speech_s)} of speech were heard, ${lasting(answer.needed_s)} are needed.`;
  }
  if (answer.llr === null) return `The score is ${cosine(answer.score)}.`;
  return `The recording is ${evidence(answer.llr)}.`;
}
