// Whether a recording is of the speaker it claims to be.
import { useState } from "preact/hooks";

import { voices } from "../api/calls";
import type { VerifyAnswer } from "../api/types";
import { scaleOf } from "../lib/evidence";
import { useDo, useTitle } from "../lib/hooks";
import { to } from "../lib/router";
import { clock, cosine, decimal, decisionWords, evidence, lasting, percent, placeName } from "../lib/words";
import { Failure, Figure, Loading, PlayStretch, Warnings } from "../parts/Basics";
import { stretchOf } from "../parts/Candidates";
import { useGallery } from "../parts/Gallery";
import { PageHead } from "../parts/PageHead";
import { InspectedProbe } from "../parts/Probe";
import { RecordingInput } from "../parts/RecordingInput";
import { ScoreBar } from "../parts/ScoreBar";
import { SpeakerPicker } from "../parts/SpeakerPicker";

const RATES = [
  { value: "", words: "as the gallery decides" },
  { value: "0.0001", words: "at most 0.01 % of strangers accepted" },
  { value: "0.001", words: "at most 0.1 % of strangers accepted" },
  { value: "0.01", words: "at most 1 % of strangers accepted" },
];

export function Verify() {
  useTitle("Verify");
  const gallery = useGallery();
  const [speaker, setSpeaker] = useState("");
  const [file, setFile] = useState<File | null>(null);
  const [rate, setRate] = useState("");
  const [answer, setAnswer] = useState<VerifyAnswer | null>(null);
  const asking = useDo(async (given: File, claimed: string) => {
    setAnswer(null);
    setAnswer(await voices.verify(gallery.name, claimed, given, { p_fa: rate, best_enrollments: 4 }));
  });

  return (
    <>
      <PageHead title="Verify" lead="Is this the person they claim to be?" />
      <form
        class="ask-row"
        onSubmit={(event) => {
          event.preventDefault();
          if (file) void asking.run(file, speaker);
        }}
      >
        <div class="stack">
          <RecordingInput
            file={file}
            disabled={asking.busy}
            onFile={(given) => {
              setFile(given);
              setAnswer(null);
            }}
          />
          {file && (
            <div class="card">
              <InspectedProbe file={file} />
            </div>
          )}
        </div>
        <div class="options">
          <SpeakerPicker gallery={gallery.name} name="Speaker" value={speaker} onValue={setSpeaker} />
          <label class="field">
            <span class="field-name">Decide</span>
            <select value={rate} onChange={(event) => setRate(event.currentTarget.value)}>
              {RATES.map((one) => (
                <option key={one.value} value={one.value}>
                  {one.words}
                </option>
              ))}
            </select>
          </label>
          <button class="button primary" disabled={asking.busy || file === null || speaker.trim() === ""}>
            {asking.busy ? "Listening…" : "Verify"}
          </button>
        </div>
      </form>
      <Failure error={asking.error} />
      {file && (
        <section class="answer" aria-label="Answer">
          {asking.busy && <Loading what="Listening" />}
          {answer && <Verdict answer={answer} gallery={gallery.name} />}
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
          <Warnings items={answer.warnings} />
          {answer.best_enrollments.length > 0 && (
            <div>
              <h3>{`What of ${answer.speaker} it resembles most`}</h3>
              <ul class="stretches">
                {answer.best_enrollments.map((one) => (
                  <li key={one.utterance_id}>
                    <PlayStretch source={stretchOf(gallery, one)} name={`${placeName(one.uri)} at ${clock(one.start_s)}`} />
                    <a class="ellipsis" href={to("recordings", [one.recording_id])}>
                      {placeName(one.uri)}
                    </a>
                    <span class="hint number">{`${clock(one.start_s)}–${clock(one.end_s)} · score ${cosine(one.score)}`}</span>
                  </li>
                ))}
              </ul>
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
