// People without a name who are heard again and again.
import { useState } from "preact/hooks";

import { unknown } from "../api/calls";
import type { UnknownVoice } from "../api/types";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { go, to } from "../lib/router";
import { clock, counted, lasting, placeName } from "../lib/words";
import { Badge, Empty, Failure, Loading, PlayStretch } from "../parts/Basics";
import { useGallery } from "../parts/Gallery";
import { Listed } from "../parts/Listed";
import { PageHead } from "../parts/PageHead";
import { NotWithThisKey, useSession } from "../parts/Session";
import { stretchOf } from "../parts/Stretches";
import { NameVoice } from "../parts/UnknownDialogs";
import { UnknownVoicePage } from "./UnknownVoice";

const ROWS = 50;
const SAMPLES = 4;

export function Unknown({ rest }: { rest: string[] }) {
  const [name] = rest;
  return name === undefined ? <List /> : <UnknownVoicePage name={name} key={name} />;
}

function List() {
  useTitle("Unknown voices");
  const gallery = useGallery();
  const session = useSession();
  const found = usePages((cursor, signal) => unknown.list(gallery.name, { cursor, limit: ROWS }, signal), [gallery.name]);
  const grouping = useDo(async () => {
    const job = await unknown.cluster(gallery.name);
    go(to("jobs", [job.id]));
  });
  const look = session.may("write") && (
    <button type="button" class="button primary" disabled={grouping.busy} onClick={() => void grouping.run()}>
      {found.items.length ? "Look again" : "Look for unknown voices"}
    </button>
  );
  return (
    <>
      <PageHead title="Unknown voices" lead="Voices without a name that are heard in more than one recording">
        {found.items.length > 0 && look}
      </PageHead>
      <Failure error={grouping.error} />
      <Listed
        found={found}
        empty={
          <Empty icon="unknown" title="No unknown voices were found yet">
            <p>voxdex groups everything in the archive that is enrolled as nobody, so that you can listen to each voice and give it a name. Run it after an archive was taken in.</p>
            {look || <NotWithThisKey />}
          </Empty>
        }
      >
        <ul class="card hits" aria-label="Unknown voices">
          {found.items.map((one) => (
            <VoiceRow key={one.name} gallery={gallery.name} voice={one} mayWrite={session.may("write")} />
          ))}
        </ul>
      </Listed>
    </>
  );
}

function VoiceRow({ gallery, voice, mayWrite }: { gallery: string; voice: UnknownVoice; mayWrite: boolean }) {
  const [open, setOpen] = useState(false);
  const [naming, setNaming] = useState(false);
  return (
    <li class="hit">
      <div class="hit-head centered">
        <a class="hit-name" href={to("unknown", [voice.name])}>
          {voice.name}
        </a>
        {voice.edited && <Badge tone="none">put right by hand</Badge>}
        <span class="hint number">
          {`${counted(voice.recordings, "recording")}, ${counted(voice.utterances, "stretch", "stretches")}, ${lasting(voice.speech_s)} of speech`}
        </span>
        <span class="row end">
          <button
            type="button"
            class="button quiet"
            aria-expanded={open}
            aria-label={`${open ? "Close" : "Listen to"} ${voice.name}`}
            onClick={() => setOpen(!open)}
          >
            {open ? "Close" : "Listen"}
          </button>
          {mayWrite && (
            <button type="button" class="button" aria-label={`Name ${voice.name}`} onClick={() => setNaming(true)}>
              Name
            </button>
          )}
        </span>
      </div>
      {open && <Samples gallery={gallery} voice={voice.name} />}
      {naming && <NameVoice gallery={gallery} voice={voice} onClose={() => setNaming(false)} />}
    </li>
  );
}

function Samples({ gallery, voice }: { gallery: string; voice: string }) {
  const { data, error } = useLoad((signal) => unknown.utterances(gallery, voice, { limit: SAMPLES }, signal), [voice]);
  if (error) return <Failure error={error} />;
  if (data === null) return <Loading />;
  return (
    <ul class="chips" aria-label={`Stretches of ${voice}`}>
      {data.items.map((one) => (
        <li class="chip" key={one.id}>
          <PlayStretch source={stretchOf(gallery, one)} name={`${placeName(one.uri)} at ${clock(one.start_s)}`} />
          <span class="ellipsis">{placeName(one.uri)}</span>
          <span class="hint number">{`${clock(one.start_s)}–${clock(one.end_s)}`}</span>
        </li>
      ))}
    </ul>
  );
}
