// The gallery that all pages are about, chosen once.
import { createContext, type ComponentChildren } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

import { galleries } from "../api/calls";
import type { Gallery } from "../api/types";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { Empty, Failure, Field, Loading } from "./Basics";
import { useSession } from "./Session";

const STORED = "voxdex.gallery";

interface Known {
  list: Gallery[];
  chosen: Gallery | null;
  /** Name of the gallery that is asked; known without the gallery where a key may ask and not read. */
  name: string | null;
  choose: (name: string) => void;
  reload: () => void;
}

const Galleries = createContext<Known | null>(null);

export function GalleriesProvider({ children }: { children: ComponentChildren }) {
  const session = useSession();
  const reads = session.may("read");
  const [wanted, setWanted] = useState(() => localStorage.getItem(STORED));
  const { data, error, reload } = useLoad(async (signal) => (reads ? (await galleries.list(signal)).items : []), [reads]);
  useEffect(() => {
    if (wanted !== null) localStorage.setItem(STORED, wanted);
  }, [wanted]);
  if (error) return <Failure error={error} retry={reload} />;
  if (data === null) return <Loading />;
  const chosen = data.find((one) => one.name === wanted) ?? data[0] ?? null;
  const name = reads ? (chosen?.name ?? null) : (session.gallery ?? wanted);
  const known = { list: data, chosen, name, choose: setWanted, reload };
  return <Galleries.Provider value={known}>{children}</Galleries.Provider>;
}

export function useGalleries(): Known {
  const known = useContext(Galleries);
  if (known === null) throw new Error("useGalleries outside GalleriesProvider");
  return known;
}

/** The gallery that is asked: its name, and the rest where the key may read it. */
export function useAsked(): { name: string; known: Gallery | null } {
  const { name, chosen } = useGalleries();
  if (name === null) throw new Error("a page without a gallery");
  return { name, known: chosen };
}

/** The chosen gallery; for pages of keys that may read, which are only shown where there is one. */
export function useGallery(): Gallery {
  const { chosen } = useGalleries();
  if (chosen === null) throw new Error("a page without a gallery");
  return chosen;
}

export function GalleryChooser() {
  const session = useSession();
  const { list, name, choose } = useGalleries();
  if (name === null) return null;
  const reads = session.may("read");
  return (
    <label class="field gallery-chooser">
      <span class="field-name">Gallery</span>
      {reads && (
        <select value={name} onChange={(event) => choose(event.currentTarget.value)}>
          {list.map((one) => (
            <option key={one.name} value={one.name}>
              {one.name}
            </option>
          ))}
        </select>
      )}
      {!reads && (
        <input
          value={name}
          readOnly={session.gallery !== null}
          onChange={(event) => choose(event.currentTarget.value.trim() || name)}
        />
      )}
    </label>
  );
}

/** Shown to keys that may ask and not read, and so cannot be given a list. */
export function NameGallery() {
  const { choose } = useGalleries();
  const [name, setName] = useState("");
  useTitle("Name a gallery");
  return (
    <Empty alone icon="search" title="Which gallery is to be asked?">
      <p>Your key asks about voices and does not list galleries. Whoever made it knows the name.</p>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          choose(name.trim());
        }}
      >
        <Field name="Name">
          <input required value={name} onInput={(event) => setName(event.currentTarget.value)} placeholder="calls" />
        </Field>
        <button class="button primary" disabled={name.trim() === ""}>
          Ask this one
        </button>
      </form>
    </Empty>
  );
}

/** Shown where there is no gallery yet. */
export function FirstGallery() {
  const session = useSession();
  useTitle("Make a gallery");
  return (
    <Empty alone icon="speakers" title="Make the first gallery">
      <p>A gallery holds recordings and the people who speak in them: one for each archive or team.</p>
      {session.may("admin") ? (
        <NewGalleryForm />
      ) : (
        <p class="muted">Your key may not make galleries. Ask whoever runs this service for one.</p>
      )}
    </Empty>
  );
}

export function NewGalleryForm({ onMade }: { onMade?: () => void }) {
  const { reload, choose } = useGalleries();
  const [name, setName] = useState("");
  const [consent, setConsent] = useState(false);
  const making = useDo(async () => {
    const made = await galleries.make({ name, consent_required: consent });
    choose(made.name);
    reload();
    onMade?.();
  });
  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        void making.run();
      }}
    >
      <Field name="Name">
        <input required maxLength={200} value={name} onInput={(event) => setName(event.currentTarget.value)} placeholder="calls" />
      </Field>
      <label class="check">
        <input type="checkbox" checked={consent} onChange={(event) => setConsent(event.currentTarget.checked)} />
        Nobody may be enrolled without a reference to their consent
      </label>
      <Failure error={making.error} />
      <button class="button primary" disabled={making.busy || name.trim() === ""}>
        {making.busy ? "Making it…" : "Make the gallery"}
      </button>
    </form>
  );
}
