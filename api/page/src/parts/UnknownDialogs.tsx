// Naming, merging and forgetting an unknown voice.
import { useState } from "preact/hooks";

import { unknown } from "../api/calls";
import type { UnknownVoice } from "../api/types";
import { useDo, useLoad } from "../lib/hooks";
import { go, to } from "../lib/router";
import { counted } from "../lib/words";
import { Failure, Field } from "./Basics";
import { Dialog } from "./Dialog";
import { useGalleries, useGallery } from "./Gallery";
import { SpeakerPicker } from "./SpeakerPicker";

interface About {
  gallery: string;
  voice: UnknownVoice;
  onClose: () => void;
}

const OFFERED = 200;

export function NameVoice({ gallery, voice, onClose }: About) {
  const { consent_required: consentRequired } = useGallery();
  const { reload: recount } = useGalleries();
  const [name, setName] = useState("");
  const [consent, setConsent] = useState("");
  const naming = useDo(async () => {
    const speaker = await unknown.name(gallery, voice.name, name.trim(), consent.trim());
    recount();
    go(to("speakers", [speaker.name]));
  });
  return (
    <Dialog title={`Name ${voice.name}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void naming.run();
        }}
      >
        <p>{`Its ${counted(voice.utterances, "stretch", "stretches")} will be enrolled as this speaker, who is recognized from then on.`}</p>
        <SpeakerPicker gallery={gallery} name="Who is it?" value={name} onValue={setName} hint="A new name adds a speaker." />
        <Field name={consentRequired ? "Consent" : "Consent (optional)"} hint="Where the person's consent is kept">
          <input value={consent} maxLength={500} required={consentRequired} onInput={(event) => setConsent(event.currentTarget.value)} />
        </Field>
        <Failure error={naming.error} />
        <div class="dialog-foot">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" disabled={naming.busy || name.trim() === ""}>
            {naming.busy ? "Enrolling…" : "Enroll"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function MergeVoice({ gallery, voice, onClose }: About) {
  const { data, error } = useLoad((signal) => unknown.list(gallery, { limit: OFFERED }, signal), [gallery]);
  const [into, setInto] = useState("");
  const merging = useDo(async () => {
    const merged = await unknown.merge(gallery, voice.name, into);
    onClose();
    go(to("unknown", [merged.name]));
  });
  const others = (data?.items ?? []).filter((one) => one.name !== voice.name);
  return (
    <Dialog title={`Merge ${voice.name}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void merging.run();
        }}
      >
        <p>{`The name ${voice.name} is gone then, and no later run parts the two again.`}</p>
        <Field name="The same person as">
          <select required value={into} onChange={(event) => setInto(event.currentTarget.value)}>
            <option value="">Choose an unknown voice</option>
            {others.map((one) => (
              <option key={one.name} value={one.name}>
                {`${one.name} (${counted(one.recordings, "recording")})`}
              </option>
            ))}
          </select>
        </Field>
        <Failure error={error ?? merging.error} />
        <div class="dialog-foot">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button primary" disabled={merging.busy || into === ""}>
            Merge
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function ForgetVoice({ gallery, voice, onClose }: About) {
  const forgetting = useDo(async () => {
    await unknown.forget(gallery, voice.name);
    onClose();
    go(to("unknown"));
  });
  return (
    <Dialog title={`Forget ${voice.name}`} onClose={onClose}>
      <p>{`The group is gone; its ${counted(voice.utterances, "stretch", "stretches")} and their recordings stay in the archive. The next run may find the voice again, under a new name.`}</p>
      <Failure error={forgetting.error} />
      <div class="dialog-foot">
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" class="button danger" disabled={forgetting.busy} onClick={() => void forgetting.run()}>
          Forget
        </button>
      </div>
    </Dialog>
  );
}
