// Galleries: made and erased.
import { useState } from "preact/hooks";

import { galleries } from "../api/calls";
import type { Gallery } from "../api/types";
import { useDo } from "../lib/hooks";
import { counted, lasting } from "../lib/words";
import { Badge, Failure, Field } from "./Basics";
import { Dialog } from "./Dialog";
import { NewGalleryForm, useGalleries } from "./Gallery";
import { useSession } from "./Session";

export function GalleriesCard() {
  const session = useSession();
  const { list, reload } = useGalleries();
  const [making, setMaking] = useState(false);
  const [deleting, setDeleting] = useState<Gallery | null>(null);
  const admin = session.may("admin");
  return (
    <section aria-label="Galleries">
      <div class="row section">
        <h2>Galleries</h2>
        {admin && (
          <button type="button" class="button end" onClick={() => setMaking(true)}>
            Make a gallery
          </button>
        )}
      </div>
      {list.length === 0 && <p class="muted">There is none yet.</p>}
      {list.length > 0 && (
        <ul class="card hits" aria-label="Galleries">
          {list.map((one) => (
            <li class="hit" key={one.name}>
              <div class="hit-head centered">
                <span class="hit-name">{one.name}</span>
                {one.consent_required && <Badge tone="none">consent required</Badge>}
                {one.retention_days !== null && <Badge tone="none">{`kept ${counted(one.retention_days, "day")}`}</Badge>}
                <span class="hint number">
                  {`${counted(one.speakers, "speaker")}, ${counted(one.recordings, "recording")}, ${lasting(one.duration_s)} · ${one.encoder}`}
                </span>
                {admin && (
                  <button type="button" class="button quiet danger end" aria-label={`Delete gallery ${one.name}`} onClick={() => setDeleting(one)}>
                    Delete
                  </button>
                )}
              </div>
            </li>
          ))}
        </ul>
      )}
      {making && (
        <Dialog title="Make a gallery" onClose={() => setMaking(false)}>
          <NewGalleryForm onMade={() => setMaking(false)} />
        </Dialog>
      )}
      {deleting && (
        <DeleteGallery
          gallery={deleting}
          onClose={() => setDeleting(null)}
          onDeleted={() => {
            setDeleting(null);
            reload();
          }}
        />
      )}
    </section>
  );
}

function DeleteGallery({ gallery, onClose, onDeleted }: { gallery: Gallery; onClose: () => void; onDeleted: () => void }) {
  const [typed, setTyped] = useState("");
  const erasing = useDo(async () => {
    await galleries.erase(gallery.name);
    onDeleted();
  });
  return (
    <Dialog title={`Delete ${gallery.name}`} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void erasing.run();
        }}
      >
        <p>
          {`${counted(gallery.speakers, "speaker")}, ${counted(gallery.recordings, "recording")} and all voiceprints will be erased, with the audio that was uploaded. This cannot be undone.`}
        </p>
        <Field name={`Type ${gallery.name} to confirm`}>
          <input value={typed} autocomplete="off" onInput={(event) => setTyped(event.currentTarget.value)} />
        </Field>
        <Failure error={erasing.error} />
        <div class="dialog-foot">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button danger" disabled={erasing.busy || typed !== gallery.name}>
            {erasing.busy ? "Erasing…" : "Delete the gallery"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
