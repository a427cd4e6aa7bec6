// What the archive holds: a list with a filter, and how single recordings are added.
import type { ComponentChildren } from "preact";

import { recordings } from "../api/calls";
import type { Recording } from "../api/types";
import { useCollection } from "../lib/collection";
import { useTitle } from "../lib/hooks";
import { to } from "../lib/router";
import { useInTurn } from "../lib/turns";
import { clock, counted, lasting, onDay, placeName, type Tone } from "../lib/words";
import { Badge, Empty, Loading, Warnings } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { useGallery } from "../parts/Gallery";
import { Icon } from "../parts/Icon";
import { Listed } from "../parts/Listed";
import { PageHead } from "../parts/PageHead";
import { RecordingInput } from "../parts/RecordingInput";
import { NotWithThisKey, useSession } from "../parts/Session";
import { RecordingPage } from "./Recording";

export const STATES: Record<Recording["state"], { words: string; tone: Tone }> = {
  ready: { words: "ready", tone: "good" },
  partial: { words: "read in part", tone: "maybe" },
  failed: { words: "failed", tone: "bad" },
};

export function Recordings({ rest }: { rest: string[] }) {
  const id = Number(rest[0]);
  return Number.isInteger(id) && id > 0 ? <RecordingPage id={id} key={id} /> : <List />;
}

function List() {
  useTitle("Recordings");
  const gallery = useGallery();
  const session = useSession();
  const found = useCollection("recordings", "add", (of, { choice: state, ...asked }, signal) =>
    recordings.list(of, { state, ...asked }, signal),
  );
  const add = session.may("write") && (
    <button type="button" class="button primary" onClick={found.add}>
      <Icon name="plus" />
      Add recordings
    </button>
  );

  return (
    <>
      <PageHead title="Recordings" lead={`${counted(gallery.recordings, "recording")} in ${gallery.name}, ${lasting(gallery.duration_s)}`}>
        {add}
      </PageHead>
      {(found.narrowed || found.items.length > 0) && (
        <div class="row filter">
          <label class="field grow">
            <span class="field-name">Place</span>
            <input type="search" value={found.typed} placeholder="Part of a file's name or folder" onInput={(event) => found.setTyped(event.currentTarget.value)} />
          </label>
          <label class="field">
            <span class="field-name">State</span>
            <select value={found.choice} onChange={(event) => found.setChoice(event.currentTarget.value)}>
              <option value="">all</option>
              {Object.entries(STATES).map(([value, { words }]) => (
                <option key={value} value={value}>
                  {words}
                </option>
              ))}
            </select>
          </label>
        </div>
      )}
      <Listed found={found} empty={<Nothing narrowed={found.narrowed} showAll={found.showAll} add={add} />}>
        <Table items={found.items} />
      </Listed>
      {found.adding && (
        <Dialog title="Add recordings" onClose={found.added}>
          <AddForm gallery={gallery.name} />
        </Dialog>
      )}
    </>
  );
}

function Nothing({ narrowed, showAll, add }: { narrowed: boolean; showAll: () => void; add: ComponentChildren }) {
  if (narrowed) {
    return (
      <Empty icon="recordings" title="No recording fits the filter">
        <button type="button" class="button" onClick={showAll}>
          Show all
        </button>
      </Empty>
    );
  }
  return (
    <Empty icon="recordings" title="The archive is empty">
      <p>Recordings are added one by one, or taken in as a folder by a job.</p>
      {add ? (
        <div class="row">
          {add}
          <a class="button" href={to("jobs", [], { start: "yes" })}>
            Take a folder in
          </a>
        </div>
      ) : (
        <NotWithThisKey />
      )}
    </Empty>
  );
}

function Table({ items }: { items: readonly Recording[] }) {
  return (
    <div class="card table-card">
      <table aria-label="Recordings">
        <thead>
          <tr>
            <th scope="col">Recording</th>
            <th scope="col">Speakers</th>
            <th scope="col" class="numeric">
              Length
            </th>
            <th scope="col" class="wide-only numeric">
              Speech
            </th>
            <th scope="col" class="wide-only numeric">
              Voices
            </th>
            <th scope="col" class="wide-only">
              State
            </th>
            <th scope="col" class="wide-only numeric">
              Recorded
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.id}>
              <th scope="row">
                <a href={to("recordings", [one.id])} title={one.uri}>
                  {placeName(one.uri)}
                </a>
              </th>
              <td>
                {one.speakers.length ? (
                  one.speakers.map((name, place) => (
                    <span key={name}>
                      {place > 0 && ", "}
                      <a href={to("speakers", [name])}>{name}</a>
                    </span>
                  ))
                ) : (
                  <span class="muted">nobody enrolled</span>
                )}
              </td>
              <td class="numeric">{one.duration_s === null ? "–" : clock(one.duration_s)}</td>
              <td class="wide-only numeric">{one.speech_s === null ? "–" : clock(one.speech_s)}</td>
              <td class="wide-only numeric">{one.voices ?? "–"}</td>
              <td class="wide-only">
                <Badge tone={STATES[one.state].tone}>{STATES[one.state].words}</Badge>
              </td>
              <td class="wide-only numeric">{onDay(one.recorded_at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function AddForm({ gallery }: { gallery: string }) {
  const adding = useInTurn((file: File) => recordings.keep(gallery, file));
  return (
    <div class="form">
      <p class="muted">They are kept with their audio, and every voice in them can be searched for at once.</p>
      <RecordingInput file={null} several onFile={adding.add} />
      {adding.waiting > 0 && <Loading what={`Listening to ${counted(adding.waiting, "recording")}`} />}
      <ul class="results" role="status" aria-label="Results">
        {adding.done.map(({ given, made, error }, place) => (
          <li key={place}>
            <p>
              <span class={made ? "tone-text-good" : "tone-text-bad"}>{made ? "Added" : "Refused"}</span>{" "}
              {made ? <a href={to("recordings", [made.id])}>{given.name}</a> : given.name}
            </p>
            {error && <p class="hint">{error.message}</p>}
            {made && <Warnings items={made.warnings} />}
          </li>
        ))}
      </ul>
    </div>
  );
}
