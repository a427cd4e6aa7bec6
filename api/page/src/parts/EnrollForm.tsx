// Recordings of one person, enrolled one after the other, each with what speaks against it.
import { useState } from "preact/hooks";

import { speakers } from "../api/calls";
import type { Gallery, NewEnrollment } from "../api/types";
import { asError, useDo } from "../lib/hooks";
import { to } from "../lib/router";
import { counted, lasting } from "../lib/words";
import { Failure, Field, Warnings } from "./Basics";
import { Icon } from "./Icon";
import { RecordingInput } from "./RecordingInput";
import { SpeakerPicker } from "./SpeakerPicker";

interface Tried {
  name: string;
  file: File;
  made: NewEnrollment | null;
  error: Error | null;
}

export function EnrollForm({ gallery, speaker }: { gallery: Gallery; speaker?: string }) {
  const [name, setName] = useState(speaker ?? "");
  const [consent, setConsent] = useState("");
  const [files, setFiles] = useState<File[]>([]);
  const [tried, setTried] = useState<Tried[]>([]);
  const enrolling = useDo(async () => {
    for (const file of files) {
      const result: Tried = { name: name.trim(), file, made: null, error: null };
      try {
        result.made = await speakers.enroll(gallery.name, result.name, file, consent.trim());
      } catch (error) {
        result.error = asError(error);
      }
      setTried((before) => [...before, result]);
      setFiles((before) => before.filter((one) => one !== file));
    }
  });
  const last = tried.filter((one) => one.made !== null).at(-1);

  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        void enrolling.run();
      }}
    >
      {speaker === undefined && (
        <SpeakerPicker gallery={gallery.name} name="Name" value={name} onValue={setName} hint="A new name adds a speaker; a known one gets more recordings." />
      )}
      <Field
        name={gallery.consent_required ? "Consent" : "Consent (optional)"}
        hint={
          gallery.consent_required
            ? "This gallery enrolls nobody without it. Where is the person's consent kept?"
            : "Where the person's consent is kept: a form, a contract number."
        }
      >
        <input
          value={consent}
          maxLength={500}
          required={gallery.consent_required}
          placeholder="form 2026-114"
          onInput={(event) => setConsent(event.currentTarget.value)}
        />
      </Field>
      <RecordingInput file={null} several disabled={enrolling.busy} onFile={(file) => setFiles((before) => [...before, file])} />
      {files.length > 0 && (
        <ul class="files" aria-label="To be enrolled">
          {files.map((file, place) => (
            <li key={`${file.name}:${place}`}>
              <span class="ellipsis">{file.name}</span>
              {enrolling.busy ? (
                <span class="hint">{place === 0 ? "listening…" : "waits"}</span>
              ) : (
                <button
                  type="button"
                  class="button quiet round small"
                  aria-label={`Leave ${file.name} out`}
                  onClick={() => setFiles((before) => before.filter((one) => one !== file))}
                >
                  <Icon name="close" size={14} />
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      <Results tried={tried} />
      <Failure error={enrolling.error} />
      <div class="dialog-foot">
        {last && (
          <a class="button" href={to("speakers", [last.name])}>
            {`Show ${last.name}`}
          </a>
        )}
        <button class="button primary" disabled={enrolling.busy || files.length === 0 || name.trim() === ""}>
          {enrolling.busy ? "Enrolling…" : files.length > 1 ? `Enroll ${files.length} recordings` : "Enroll"}
        </button>
      </div>
    </form>
  );
}

function Results({ tried }: { tried: readonly Tried[] }) {
  if (tried.length === 0) return null;
  return (
    <ul class="results" role="status" aria-label="Results">
      {tried.map(({ file, made, error }, place) => (
        <li key={`${file.name}:${place}`}>
          <p>
            <span class={made ? "tone-text-good" : "tone-text-bad"}>{made ? "Enrolled" : "Refused"}</span>
            {` ${file.name}`}
            {made && (
              <span class="hint">{` ${lasting(made.quality.speech_s)} of speech, ${counted(made.utterances, "stretch", "stretches")}`}</span>
            )}
          </p>
          {error && <p class="hint">{error.message}</p>}
          {made && <Warnings items={[...made.quality.issues, ...made.warnings]} />}
        </li>
      ))}
    </ul>
  );
}
