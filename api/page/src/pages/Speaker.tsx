// One speaker: what is enrolled, how good it is, and what can be done about it.
import { useState } from "preact/hooks";

import { recordings, speakers } from "../api/calls";
import type { Enrollment, Speaker } from "../api/types";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { go, to } from "../lib/router";
import { cosine, count, lasting, onDay, placeName } from "../lib/words";
import { Badge, Empty, Failure, Figure, Loading, More, PlayStretch } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { EnrollForm } from "../parts/EnrollForm";
import { useGalleries, useGallery } from "../parts/Gallery";
import { PageHead } from "../parts/PageHead";
import { useSession } from "../parts/Session";
import { DeleteSpeaker, EditSpeaker, MergeSpeaker } from "../parts/SpeakerDialogs";

type Asked = "enroll" | "edit" | "merge" | "delete" | null;

const NOISY_DB = 10;
const PLAYED_S = 600;

export function SpeakerPage({ name }: { name: string }) {
  useTitle(name);
  const gallery = useGallery();
  const { reload: recount } = useGalleries();
  const session = useSession();
  const [asked, setAsked] = useState<Asked>(null);
  const shown = useLoad((signal) => speakers.show(gallery.name, name, signal), [gallery.name, name]);
  const enrolled = usePages(
    (cursor, signal) => speakers.enrollments(gallery.name, name, { cursor }, signal),
    [gallery.name, name],
  );
  const reload = () => {
    shown.reload();
    enrolled.reload();
    recount();
  };
  const left = (to_: string) => {
    recount();
    go(to_);
  };
  const speaker = shown.data;
  if (shown.error) {
    return (
      <>
        <PageHead title={name} />
        <Failure error={shown.error} retry={shown.reload} />
        <a href={to("speakers")}>All speakers</a>
      </>
    );
  }
  if (speaker === null) return <Loading />;

  return (
    <>
      <p class="crumbs">
        <a href={to("speakers")}>Speakers</a>
      </p>
      <PageHead title={speaker.name}>
        {session.may("write") && (
          <>
            <button type="button" class="button primary" onClick={() => setAsked("enroll")}>
              Enroll more
            </button>
            <button type="button" class="button" onClick={() => setAsked("edit")}>
              Edit
            </button>
            <button type="button" class="button" onClick={() => setAsked("merge")}>
              Merge
            </button>
            <button type="button" class="button danger" onClick={() => setAsked("delete")}>
              Delete
            </button>
          </>
        )}
      </PageHead>
      <Facts speaker={speaker} />
      <Enrollments
        gallery={gallery.name}
        speaker={speaker}
        items={enrolled.items}
        loading={enrolled.loading}
        mayWrite={session.may("write")}
        onChanged={reload}
      />
      <Failure error={enrolled.error} retry={enrolled.reload} />
      <More cursor={enrolled.cursor} busy={enrolled.loading} shown={enrolled.items.length} onMore={enrolled.more} />
      {asked === "enroll" && (
        <Dialog
          title={`Enroll more of ${speaker.name}`}
          onClose={() => {
            setAsked(null);
            reload();
          }}
        >
          <EnrollForm gallery={gallery} speaker={speaker.name} />
        </Dialog>
      )}
      {asked === "edit" && (
        <EditSpeaker gallery={gallery.name} speaker={speaker} onClose={() => setAsked(null)}
          onChanged={(changed) => (changed.name === name ? reload() : left(to("speakers", [changed.name])))} />
      )}
      {asked === "merge" && (
        <MergeSpeaker gallery={gallery.name} speaker={speaker} onClose={() => setAsked(null)}
          onMerged={(into) => left(to("speakers", [into.name]))} />
      )}
      {asked === "delete" && (
        <DeleteSpeaker gallery={gallery.name} speaker={speaker} onClose={() => setAsked(null)}
          onDeleted={() => left(to("speakers"))} />
      )}
    </>
  );
}

function Facts({ speaker }: { speaker: Speaker }) {
  return (
    <section class="card" aria-label="In short">
      <dl class="figures">
        <Figure name="Enrolled speech">{lasting(speaker.enrolled_s)}</Figure>
        <Figure name="Recordings">{count(speaker.recordings)}</Figure>
        <Figure name="Stretches">{count(speaker.enrolled_utterances)}</Figure>
        <Figure name="Consent" hint={speaker.consented_at ? `given ${onDay(speaker.consented_at)}` : undefined}>
          {speaker.consent_reference ?? "not stated"}
        </Figure>
        <Figure name="Added">{onDay(speaker.created_at)}</Figure>
      </dl>
      {speaker.labels.length > 0 && (
        <ul class="row" aria-label="Labels">
          {speaker.labels.map((label) => (
            <li class="tag" key={label}>
              {label}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

interface Listed {
  gallery: string;
  speaker: Speaker;
  items: readonly Enrollment[];
  loading: boolean;
  mayWrite: boolean;
  onChanged: () => void;
}

function Enrollments({ gallery, speaker, items, loading, mayWrite, onChanged }: Listed) {
  const [taken, setTaken] = useState<Enrollment | null>(null);
  if (items.length === 0) {
    if (loading) return <Loading />;
    return (
      <Empty icon="mic" title="No voice is enrolled yet">
        <p>{`Enroll ten seconds or more of ${speaker.name} speaking.`}</p>
      </Empty>
    );
  }
  return (
    <>
      <h2 class="section">Enrollments</h2>
      <div class="card table-card">
        <table aria-label="Enrollments">
          <thead>
            <tr>
              <th scope="col">Recording</th>
              <th scope="col" class="wide-only numeric">
                Speech
              </th>
              <th scope="col" class="wide-only numeric">
                Above noise
              </th>
              <th scope="col" class="wide-only numeric">
                Like the others
              </th>
              <th scope="col" class="wide-only numeric">
                Enrolled
              </th>
              {mayWrite && (
                <th scope="col">
                  <span class="out-of-sight">Take back</span>
                </th>
              )}
            </tr>
          </thead>
          <tbody>
            {items.map((one) => (
              <tr key={one.enrollment_id}>
                <th scope="row">
                  <span class="row no-wrap">
                    <PlayStretch
                      source={recordings.audio(gallery, one.recording_id, { start_s: 0, end_s: PLAYED_S })}
                      name={placeName(one.uri)}
                    />
                    <span class="row">
                      <a href={to("recordings", [one.recording_id])} title={one.uri}>
                        {placeName(one.uri)}
                      </a>
                      {one.is_outlier && <Badge tone="bad">unlike the others</Badge>}
                    </span>
                  </span>
                </th>
                <td class="wide-only numeric">{lasting(one.net_speech_s ?? one.enrolled_s)}</td>
                <td class={`wide-only numeric ${(one.snr_db ?? NOISY_DB) < NOISY_DB ? "tone-text-maybe" : ""}`}>
                  {one.snr_db == null ? "–" : `${Math.round(one.snr_db)} dB`}
                </td>
                <td class="wide-only numeric">{cosine(one.cosine_to_others)}</td>
                <td class="wide-only numeric">{onDay(one.created_at)}</td>
                {mayWrite && (
                  <td class="numeric">
                    <button type="button" class="button quiet" aria-label={`Take ${placeName(one.uri)} back`} onClick={() => setTaken(one)}>
                      Take back
                    </button>
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {taken && (
        <TakeBack gallery={gallery} speaker={speaker.name} enrollment={taken} onClose={() => setTaken(null)} onDone={onChanged} />
      )}
    </>
  );
}

interface Taken {
  gallery: string;
  speaker: string;
  enrollment: Enrollment;
  onClose: () => void;
  onDone: () => void;
}

function TakeBack({ gallery, speaker, enrollment, onClose, onDone }: Taken) {
  const [erase, setErase] = useState(false);
  const doing = useDo(async () => {
    await speakers.takeBack(gallery, speaker, enrollment.enrollment_id, erase);
    onClose();
    onDone();
  });
  return (
    <Dialog title={`Take ${placeName(enrollment.uri)} back`} onClose={onClose}>
      <p>{`It will no longer count as the voice of ${speaker}.`}</p>
      <label class="check">
        <input type="checkbox" checked={erase} onChange={(event) => setErase(event.currentTarget.checked)} />
        Erase the recording too, with its audio and voiceprints
      </label>
      <Failure error={doing.error} />
      <div class="dialog-foot">
        <button type="button" class="button" onClick={onClose}>
          Keep it
        </button>
        <button type="button" class="button danger" disabled={doing.busy} onClick={() => void doing.run()}>
          {erase ? "Take back and erase" : "Take back"}
        </button>
      </div>
    </Dialog>
  );
}
