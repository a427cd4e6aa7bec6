// One unknown voice: listened to, put right, given a name.
import { useState } from "preact/hooks";

import { unknown } from "../api/calls";
import type { UnknownUtterance } from "../api/types";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { go, to } from "../lib/router";
import { clock, cosine, counted, lasting, placeName } from "../lib/words";
import { Failure, Loading, More, PlayStretch } from "../parts/Basics";
import { useGallery } from "../parts/Gallery";
import { PageHead } from "../parts/PageHead";
import { useSession } from "../parts/Session";
import { stretchOf } from "../parts/Stretches";
import { ForgetVoice, MergeVoice, NameVoice } from "../parts/UnknownDialogs";

type Asked = "name" | "merge" | "forget" | null;

const ROWS = 100;

export function UnknownVoicePage({ name }: { name: string }) {
  useTitle(name);
  const gallery = useGallery();
  const session = useSession();
  const [asked, setAsked] = useState<Asked>(null);
  const shown = useLoad((signal) => unknown.show(gallery.name, name, signal), [gallery.name, name]);
  const found = usePages(
    (cursor, signal) => unknown.utterances(gallery.name, name, { cursor, limit: ROWS }, signal),
    [gallery.name, name],
  );
  const voice = shown.data;
  if (shown.error) return <Failure error={shown.error} retry={shown.reload} />;
  if (voice === null) return <Loading />;
  const close = () => setAsked(null);
  const about = { gallery: gallery.name, voice, onClose: close };
  return (
    <>
      <p class="crumbs">
        <a href={to("unknown")}>Unknown voices</a>
      </p>
      <PageHead
        title={voice.name}
        lead={`${counted(voice.recordings, "recording")}, ${lasting(voice.speech_s)} of speech`}
      >
        {session.may("write") && (
          <>
            <button type="button" class="button primary" onClick={() => setAsked("name")}>
              Name
            </button>
            <button type="button" class="button" onClick={() => setAsked("merge")}>
              Merge
            </button>
            <button type="button" class="button danger" onClick={() => setAsked("forget")}>
              Forget
            </button>
          </>
        )}
      </PageHead>
      <Failure error={found.error} retry={found.reload} />
      <Stretches
        gallery={gallery.name}
        voice={voice.name}
        items={found.items}
        mayWrite={session.may("write")}
        onChanged={() => {
          shown.reload();
          found.reload();
        }}
      />
      {found.loading && found.items.length === 0 && <Loading />}
      <More cursor={found.cursor} busy={found.loading} shown={found.items.length} onMore={found.more} />
      {asked === "name" && <NameVoice {...about} />}
      {asked === "merge" && <MergeVoice {...about} />}
      {asked === "forget" && <ForgetVoice {...about} />}
    </>
  );
}

interface Listed {
  gallery: string;
  voice: string;
  items: readonly UnknownUtterance[];
  mayWrite: boolean;
  onChanged: () => void;
}

function Stretches({ gallery, voice, items, mayWrite, onChanged }: Listed) {
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const splitting = useDo(async (ids: number[] | null) => {
    const parted = await unknown.split(gallery, voice, ids);
    setChosen(new Set());
    onChanged();
    go(to("unknown", [parted.made.name]));
  });
  const taking = useDo(async (id: number) => {
    await unknown.takeOut(gallery, voice, id);
    onChanged();
  });
  const toggle = (id: number) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  if (items.length === 0) return null;
  return (
    <>
      <Failure error={splitting.error ?? taking.error} />
      {mayWrite && (
        <div class="row filter">
          <button type="button" class="button" disabled={chosen.size === 0 || splitting.busy} onClick={() => void splitting.run([...chosen])}>
            {`Another person: split ${chosen.size || "the chosen"} off`}
          </button>
          <button type="button" class="button" disabled={items.length < 2 || splitting.busy} onClick={() => void splitting.run(null)}>
            Part in two by sound
          </button>
        </div>
      )}
      <ul class="card hits" aria-label={`Stretches of ${voice}`}>
        {items.map((one) => (
          <li class="hit" key={one.id}>
            <div class="hit-head centered">
              {mayWrite && (
                <input
                  type="checkbox"
                  aria-label={`Choose ${placeName(one.uri)} at ${clock(one.start_s)}`}
                  checked={chosen.has(one.id)}
                  onChange={() => toggle(one.id)}
                />
              )}
              <PlayStretch source={stretchOf(gallery, one)} name={`${placeName(one.uri)} at ${clock(one.start_s)}`} />
              <a class="hit-name" href={to("recordings", [one.recording_id])}>
                {placeName(one.uri)}
              </a>
              <span class="hint number">{`${clock(one.start_s)}–${clock(one.end_s)}`}</span>
              <span class="row end">
                <span class="hint number">{one.score === null ? "" : `score ${cosine(one.score)}`}</span>
                {mayWrite && (
                  <button type="button" class="button quiet" disabled={taking.busy} onClick={() => void taking.run(one.id)}>
                    Not this voice
                  </button>
                )}
              </span>
            </div>
          </li>
        ))}
      </ul>
    </>
  );
}
