// One recording: listened to, who speaks when, and who that is.
import { useMemo, useRef, useState } from "preact/hooks";

import { recordings } from "../api/calls";
import type { Recording, RecordingVoice, RecordingVoices, Turn } from "../api/types";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { go, to } from "../lib/router";
import { voiceToken } from "../lib/theme";
import { at, bytes, clock, cosine, count, counted, evidence, lasting, placeName } from "../lib/words";
import { Badge, DecisionBadge, Failure, Figure, Loading, Warnings } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { useGalleries, useGallery } from "../parts/Gallery";
import { PageHead } from "../parts/PageHead";
import { useSession } from "../parts/Session";
import { Timeline } from "../parts/Timeline";
import { Waveform, type WaveHandle } from "../parts/Waveform";

/** Most that is listened to at once; a longer recording comes in parts. */
const PART_S = 600;

export function RecordingPage({ id }: { id: number }) {
  const gallery = useGallery();
  const session = useSession();
  const [deleting, setDeleting] = useState(false);
  const shown = useLoad((signal) => recordings.show(gallery.name, id, signal), [gallery.name, id]);
  const recording = shown.data;
  useTitle(recording ? placeName(recording.uri) : "Recording");
  if (shown.error) return <Failure error={shown.error} retry={shown.reload} />;
  if (recording === null) return <Loading />;
  return (
    <>
      <p class="crumbs">
        <a href={to("recordings")}>Recordings</a>
      </p>
      <PageHead title={placeName(recording.uri)} lead={<span class="break">{recording.uri}</span>}>
        {session.may("write") && (
          <button type="button" class="button danger" onClick={() => setDeleting(true)}>
            Delete
          </button>
        )}
      </PageHead>
      {recording.error_message && (
        <div class={`notice ${recording.state === "failed" ? "tone-bad" : "tone-maybe"}`}>{recording.error_message}</div>
      )}
      {recording.duration_s !== null && recording.utterance_count > 0 && (
        <Heard gallery={gallery.name} id={id} recording={recording} duration={recording.duration_s} />
      )}
      <h2 class="section">About it</h2>
      <Facts recording={recording} />
      {deleting && <DeleteRecording recording={recording} onClose={() => setDeleting(false)} />}
    </>
  );
}

interface Of {
  gallery: string;
  id: number;
  recording: Recording;
  duration: number;
}

function Heard({ gallery, id, recording, duration }: Of) {
  const session = useSession();
  const [part, setPart] = useState(0);
  const player = useRef<WaveHandle>(null);
  const found = useLoad(
    async (signal) => (session.may("identify") ? recordings.voices(gallery, id, signal) : null),
    [gallery, id],
  );
  const from = part * PART_S;
  const parts = Math.ceil(duration / PART_S);
  const lanes = useMemo(() => lanesOf(found.data), [found.data]);
  const marks = useMemo(
    () =>
      lanes.flatMap(({ voice, lane }) =>
        voice.turns
          .filter((turn) => turn.end_s > from && turn.start_s < from + PART_S)
          .map((turn) => ({ start_s: turn.start_s - from, end_s: turn.end_s - from, token: voiceToken(lane) })),
      ),
    [lanes, from],
  );
  const play = (turn: Turn) => {
    const wanted = Math.floor(turn.start_s / PART_S);
    if (wanted === part) player.current?.play(turn.start_s - from, turn.end_s - from);
    else setPart(wanted);
  };
  const source = recordings.audio(gallery, id, { start_s: from, end_s: Math.min(from + PART_S, Math.ceil(duration)) });

  return (
    <section class="answer" aria-label="Heard">
      <div class="card">
        <Waveform key={part} source={source} label={placeName(recording.uri)} marks={marks} spectrogram handle={player}>
          {parts > 1 && (
            <label class="field inline end">
              <span class="field-name">Part</span>
              <select value={part} onChange={(event) => setPart(Number(event.currentTarget.value))}>
                {Array.from({ length: parts }, (_, one) => (
                  <option key={one} value={one}>
                    {`${clock(one * PART_S)} to ${clock(Math.min(duration, (one + 1) * PART_S))}`}
                  </option>
                ))}
              </select>
            </label>
          )}
        </Waveform>
        {found.loading && <Loading what="Looking who speaks" />}
        {lanes.length > 0 && (
          <Timeline
            duration_s={duration}
            onPlay={play}
            lanes={lanes.map(({ voice, lane }) => ({
              voice: lane,
              name: nameOf(voice, lane),
              called: nameOf(voice, lane),
              speech_s: voice.speech_s,
              turns: voice.turns,
            }))}
          />
        )}
      </div>
      <Failure error={found.error} retry={found.reload} />
      {lanes.length > 0 && <Who lanes={lanes} />}
    </section>
  );
}

/** A voice, and the number of its lane and color: those that nobody told apart have no number of their own. */
interface Laned {
  voice: RecordingVoice;
  lane: number;
}

function lanesOf(found: RecordingVoices | null): Laned[] {
  const first = (voice: RecordingVoice) => voice.turns[0]?.start_s ?? 0;
  return [...(found?.voices ?? [])].sort((a, b) => first(a) - first(b)).map((voice, lane) => ({ voice, lane }));
}

function nameOf(voice: RecordingVoice, lane: number): string {
  if (voice.speakers.length) return voice.speakers.join(", ");
  if (voice.speaker !== null) return voice.speaker;
  if (voice.decision === "possible" && voice.candidates[0]) return `${voice.candidates[0].speaker}?`;
  return voice.unknown_voice ?? `Voice ${lane + 1}`;
}

function Who({ lanes }: { lanes: readonly Laned[] }) {
  return (
    <ul class="card hits" aria-label="Voices">
      {lanes.map(({ voice, lane }) => (
        <li class="hit" key={lane}>
          <div class="hit-head">
            <span class="dot" style={{ background: `var(--${voiceToken(lane)})` }} />
            <span class="hit-name">
              <NameLink voice={voice} lane={lane} />
            </span>
            {voice.decision === "enrolled" ? <Badge tone="good">Enrolled</Badge> : <DecisionBadge decision={voice.decision} />}
            <span class="hint">{explained(voice)}</span>
            <span class="hint number end">{`${lasting(voice.speech_s)}, ${counted(voice.turns.length, "turn")}`}</span>
          </div>
          <Warnings items={voice.warnings} />
        </li>
      ))}
    </ul>
  );
}

function NameLink({ voice, lane }: Laned) {
  const name = nameOf(voice, lane);
  const possible = voice.decision === "possible" ? voice.candidates[0]?.speaker : null;
  const speaker = voice.speakers[0] ?? voice.speaker ?? possible;
  if (speaker) return <a href={to("speakers", [speaker])}>{name}</a>;
  if (voice.unknown_voice) return <a href={to("unknown", [voice.unknown_voice])}>{name}</a>;
  return <>{name}</>;
}

function explained(voice: RecordingVoice): string {
  const best = voice.candidates[0];
  if (voice.decision === "enrolled" || !best) return "";
  if (best.llr === null) return `best score ${cosine(best.score)} with ${best.speaker}`;
  return voice.decision === "unknown" ? `nearest: ${best.speaker}, ${evidence(best.llr)}` : evidence(best.llr);
}

function Facts({ recording }: { recording: Recording }) {
  const kind = [recording.container, recording.codec].filter(Boolean).join(", ");
  return (
    <section class="card" aria-label="About it">
      <dl class="figures">
        <Figure name="Length">{lasting(recording.duration_s)}</Figure>
        <Figure name="Speech">{lasting(recording.speech_s)}</Figure>
        <Figure name="Voices">{recording.voices ?? "–"}</Figure>
        <Figure name="Stretches">{count(recording.utterance_count)}</Figure>
        <Figure name="Format" hint={kind || undefined}>
          {recording.sample_rate_hz ? `${recording.sample_rate_hz / 1000} kHz` : "–"}
        </Figure>
        <Figure name="Channels">{recording.channels ?? "–"}</Figure>
        {(recording.audio_tracks ?? 1) > 1 && (
          <Figure name="Audio track" hint="the others were not read">
            {`${recording.audio_track} of ${recording.audio_tracks}`}
          </Figure>
        )}
        <Figure name="Size">{bytes(recording.size_bytes)}</Figure>
        <Figure name="Recorded">{at(recording.recorded_at)}</Figure>
        <Figure name="Occasion">{recording.session ?? "–"}</Figure>
        <Figure name="Taken in">{at(recording.created_at)}</Figure>
      </dl>
      {recording.labels.length > 0 && (
        <ul class="row" aria-label="Labels">
          {recording.labels.map((label) => (
            <li class="tag" key={label}>
              {label}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function DeleteRecording({ recording, onClose }: { recording: Recording; onClose: () => void }) {
  const gallery = useGallery();
  const { reload: recount } = useGalleries();
  const erasing = useDo(async () => {
    await recordings.erase(gallery.name, recording.id);
    recount();
    go(to("recordings"));
  });
  const uploaded = recording.uri.startsWith("upload:");
  return (
    <Dialog title={`Delete ${placeName(recording.uri)}`} onClose={onClose}>
      <p>This will be erased, and cannot be brought back:</p>
      <ul class="plain-list">
        <li>{`the entry and ${counted(recording.utterance_count, "voice vector")}`}</li>
        {recording.speakers.length > 0 && <li>{`its enrollments as ${recording.speakers.join(", ")}`}</li>}
        <li>{uploaded ? "the audio that was uploaded" : "nothing of the original file, which stays where it is"}</li>
      </ul>
      <Failure error={erasing.error} />
      <div class="dialog-foot">
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" class="button danger" disabled={erasing.busy} onClick={() => void erasing.run()}>
          {erasing.busy ? "Erasing…" : "Delete"}
        </button>
      </div>
    </Dialog>
  );
}
