// Changing, merging and erasing a speaker; each says first what will be so afterwards.
import { useState } from "preact/hooks";

import { speakers } from "../api/calls";
import type { Speaker } from "../api/types";
import { useDo, useLoad } from "../lib/hooks";
import { counted } from "../lib/words";
import { Failure, Field, Loading } from "./Basics";
import { Dialog } from "./Dialog";
import { SpeakerPicker } from "./SpeakerPicker";

interface About {
  gallery: string;
  speaker: Speaker;
  onClose: () => void;
}

export function EditSpeaker({ gallery, speaker, onClose, onChanged }: About & { onChanged: (speaker: Speaker) => void }) {
  const [name, setName] = useState(speaker.name);
  const [labels, setLabels] = useState(speaker.labels.join(", "));
  const [consent, setConsent] = useState(speaker.consent_reference ?? "");
  const saving = useDo(async () => {
    const changed = await speakers.change(gallery, speaker.name, {
      ...(name.trim() !== speaker.name && { name: name.trim() }),
      labels: labels.split(",").map((one) => one.trim()).filter(Boolean),
      ...(consent !== (speaker.consent_reference ?? "") && { consent_reference: consent.trim() || null }),
    });
    onClose();
    onChanged(changed);
  });
  return (
    <Dialog title={`Edit ${speaker.name}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void saving.run();
        }}
      >
        <Field name="Name">
          <input required value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </Field>
        <Field name="Labels" hint="Separated by commas">
          <input value={labels} onInput={(event) => setLabels(event.currentTarget.value)} />
        </Field>
        <Field name="Consent" hint="Where it is kept; empty: it is taken back">
          <input value={consent} maxLength={500} onInput={(event) => setConsent(event.currentTarget.value)} />
        </Field>
        <Failure error={saving.error} />
        <div class="dialog-foot">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" disabled={saving.busy}>
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function MergeSpeaker({ gallery, speaker, onClose, onMerged }: About & { onMerged: (into: Speaker) => void }) {
  const [into, setInto] = useState("");
  const merging = useDo(async () => {
    const merged = await speakers.merge(gallery, speaker.name, into.trim());
    onClose();
    onMerged(merged);
  });
  return (
    <Dialog title={`Merge ${speaker.name}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void merging.run();
        }}
      >
        <p>{`The recordings and labels of ${speaker.name} go over to somebody else who is the same person; the name ${speaker.name} is gone then. This cannot be undone.`}</p>
        <SpeakerPicker gallery={gallery} name="The same person as" value={into} onValue={setInto} except={speaker.name} />
        <Failure error={merging.error} />
        <div class="dialog-foot">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" disabled={merging.busy || into.trim() === "" || into.trim() === speaker.name}>
            Merge
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function DeleteSpeaker({ gallery, speaker, onClose, onDeleted }: About & { onDeleted: () => void }) {
  const [keep, setKeep] = useState(false);
  const preview = useLoad((signal) => speakers.erasure(gallery, speaker.name, keep, signal), [keep]);
  const erasing = useDo(async () => {
    await speakers.erase(gallery, speaker.name, keep);
    onClose();
    onDeleted();
  });
  const erasure = preview.data;
  return (
    <Dialog title={`Delete ${speaker.name}`} onClose={onClose}>
      {erasure ? (
        <div class="stack" role="status">
          <p>This will be erased, and cannot be brought back:</p>
          <ul class="plain-list">
            <li>{`the name ${speaker.name}, labels and consent`}</li>
            <li>{`${counted(erasure.enrollments, "enrolled stretch", "enrolled stretches")}`}</li>
            {erasure.recordings > 0 && <li>{`${counted(erasure.recordings, "recording")}, with their audio where it was uploaded`}</li>}
            {erasure.vectors > 0 && <li>{counted(erasure.vectors, "voice vector")}</li>}
          </ul>
          {erasure.kept_recordings > 0 && (
            <p class="hint">{`${counted(erasure.kept_recordings, "recording")} will stay${keep ? "" : ", for others speak in them"}.`}</p>
          )}
        </div>
      ) : (
        !preview.error && <Loading what="Looking what would be erased" />
      )}
      <label class="check">
        <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
        Forget the name only, and keep the recordings in the archive as an unknown voice
      </label>
      <Failure error={preview.error ?? erasing.error} />
      <div class="dialog-foot">
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" class="button danger" disabled={erasing.busy || erasure === null} onClick={() => void erasing.run()}>
          {erasing.busy ? "Erasing…" : "Delete"}
        </button>
      </div>
    </Dialog>
  );
}
