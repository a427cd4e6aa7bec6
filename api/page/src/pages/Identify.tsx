// Who speaks in a recording, among the enrolled speakers of a gallery.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { voices } from "../api/calls";
import type { IdentifyAnswer, VoiceIdentified } from "../api/types";
import { useTitle } from "../lib/hooks";
import { useProbe } from "../lib/probe";
import { to } from "../lib/router";
import { voiceToken } from "../lib/theme";
import { counted, decisionWords, evidence, lasting } from "../lib/words";
import { DecisionBadge, Empty, Failure, Loading, Warnings } from "../parts/Basics";
import { Candidates } from "../parts/Candidates";
import { Decide } from "../parts/Decide";
import { useAsked } from "../parts/Gallery";
import { PageHead } from "../parts/PageHead";
import { Probe } from "../parts/Probe";
import { QualityLine } from "../parts/QualityLine";
import { RecordingInput } from "../parts/RecordingInput";
import { NotWithThisKey, useSession } from "../parts/Session";
import { Timeline } from "../parts/Timeline";
import type { Marked, WaveHandle } from "../parts/Waveform";

const RATES = [
  { value: "0.001", words: "at most 0.1 % of strangers named" },
  { value: "0.01", words: "at most 1 % of strangers named" },
  { value: "0.05", words: "at most 5 % of strangers named" },
];

export function Identify() {
  useTitle("Identify");
  const { name: gallery, known } = useAsked();
  const [rate, setRate] = useState("");
  const [exclusive, setExclusive] = useState(false);
  const { file, answer, error, busy, give, ask } = useProbe((given, signal) =>
    voices.identify(gallery, given, { fpir: rate, exclusive, best_enrollments: 3 }, signal),
  );
  useEffect(() => void ask(), [file, rate, exclusive]);

  return (
    <>
      <PageHead
        title="Identify"
        lead={known ? `Who speaks? Compared with ${counted(known.speakers, "speaker")} of ${gallery}.` : `Who speaks, among the speakers of ${gallery}?`}
      />
      <div class="ask-row">
        <RecordingInput file={file} onFile={give} disabled={busy} />
        <div class="options">
          <Decide rates={RATES} value={rate} onValue={setRate} />
          <label class="check">
            <input type="checkbox" checked={exclusive} onChange={(event) => setExclusive(event.currentTarget.checked)} />
            Each person at most once in a conversation
          </label>
        </div>
      </div>
      <Failure error={error} {...(file && { retry: () => void ask() })} />
      {file && <Answer file={file} answer={answer} gallery={gallery} busy={busy} />}
      {file === null && known?.speakers === 0 && <NobodyEnrolled />}
    </>
  );
}

function NobodyEnrolled() {
  const session = useSession();
  return (
    <Empty icon="speakers" title="Nobody is enrolled yet">
      <p>A voice can only be recognized among people who are enrolled.</p>
      {session.may("write") ? (
        <a class="button primary" href={to("speakers", [], { enroll: "yes" })}>
          Enroll a speaker
        </a>
      ) : (
        <NotWithThisKey />
      )}
    </Empty>
  );
}

interface Given {
  file: File;
  answer: IdentifyAnswer | null;
  gallery: string;
  busy: boolean;
}

function Answer({ file, answer, gallery, busy }: Given) {
  const player = useRef<WaveHandle>(null);
  const [duration, setDuration] = useState(0);
  const marks = useMemo(() => (answer?.voices ?? []).flatMap(marksOf), [answer]);

  return (
    <section class="answer" aria-label="Answer">
      <div class="card">
        <Probe file={file} marks={marks} handle={player} onDuration={setDuration}>
          {answer && (
            <span class="hint end">
              {`${lasting(answer.speech_s)} of speech of the main voice, ${counted(answer.voices_heard, "voice")} heard`}
            </span>
          )}
        </Probe>
        {answer && answer.voices.length > 1 && (
          <Timeline
            duration_s={Math.max(duration, lastSecond(answer))}
            onPlay={(turn) => player.current?.play(turn.start_s, turn.end_s)}
            lanes={[...answer.voices]
              .sort((a, b) => a.voice - b.voice)
              .map((one) => ({
                voice: one.voice,
                name: called(one),
                called: called(one),
                speech_s: one.quality.net_speech_s,
                turns: one.turns,
              }))}
          />
        )}
      </div>
      {busy && <Loading what="Listening" />}
      {answer && <Summary answer={answer} />}
      {answer?.voices.map((one) => (
        <VoiceCard key={one.voice} voice={one} gallery={gallery} alone={answer.voices.length === 1} file={file} />
      ))}
    </section>
  );
}

function Summary({ answer }: { answer: IdentifyAnswer }) {
  const several = answer.voices.length > 1;
  const named = answer.voices.filter((one) => one.decision === "identified").length;
  const tone = !several || named === answer.voices.length ? decisionWords(answer.decision).tone : named ? "maybe" : "none";
  return (
    <div class={`verdict tone-${tone}`} role="status">
      <p class="verdict-words">{several ? conversation(answer) : verdict(answer)}</p>
      {!several && <p>{because(answer)}</p>}
      <p class="hint">{`Decided at: ${answer.operating_point.asked}`}</p>
      <Warnings items={answer.voices.length ? answer.issues : [...answer.issues, ...answer.warnings]} />
    </div>
  );
}

function verdict(answer: IdentifyAnswer): string {
  const first = answer.candidates[0];
  if (answer.decision === "identified") return `This is ${answer.speaker ?? ""}`;
  if (answer.decision === "possible") return `Possibly ${first?.speaker ?? ""}, not sure enough to say so`;
  if (answer.decision === "not_enough_speech") return "Too little speech to decide";
  return first ? "None of the enrolled speakers" : "Nobody is enrolled who could be compared";
}

function because(answer: IdentifyAnswer): string {
  const first = answer.candidates[0];
  if (answer.decision === "not_enough_speech") {
    return `${lasting(answer.speech_s)} of speech were heard, ${lasting(answer.needed_s)} are needed.`;
  }
  if (!first) return "";
  if (first.llr === null) return `The best score, ${first.score.toFixed(2)}, is that of ${first.speaker}.`;
  return `Compared with ${first.speaker}, the recording is ${evidence(first.llr)}.`;
}

function conversation(answer: IdentifyAnswer): string {
  const known = answer.voices.filter((one) => one.decision === "identified").map((one) => one.speaker);
  const names = known.length ? known.join(" and ") : "nobody who is enrolled";
  return `${counted(answer.voices.length, "voice")}: ${names}${known.length && known.length < answer.voices.length ? ", and others" : ""}`;
}

function called(voice: VoiceIdentified): string {
  if (voice.speaker !== null) return voice.speaker;
  if (voice.decision === "possible") return `${voice.candidates[0]?.speaker ?? "Somebody"}?`;
  return `Voice ${voice.voice + 1}`;
}

interface OfVoice {
  voice: VoiceIdentified;
  gallery: string;
  alone: boolean;
  file: File;
}

function VoiceCard({ voice, gallery, alone, file }: OfVoice) {
  const marks = useMemo(() => marksOf(voice), [voice]);
  return (
    <article class="card">
      <header class="card-head">
        {!alone && <span class="dot" style={{ background: `var(--${voiceToken(voice.voice)})` }} />}
        <h2>{alone ? "Candidates" : called(voice)}</h2>
        {!alone && <DecisionBadge decision={voice.decision} />}
        <QualityLine quality={voice.quality} />
      </header>
      <Warnings items={voice.warnings} />
      <Candidates gallery={gallery} candidates={voice.candidates} point={voice.operating_point} probe={{ file, marks }} />
    </article>
  );
}

function marksOf(voice: VoiceIdentified): Marked[] {
  return voice.turns.map((turn) => ({ ...turn, token: voiceToken(voice.voice) }));
}

function lastSecond(answer: IdentifyAnswer): number {
  return Math.max(1, ...answer.voices.flatMap((one) => one.turns.map((turn) => turn.end_s)));
}
