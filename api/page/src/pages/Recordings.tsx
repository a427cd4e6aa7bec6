// What the archive holds: a list with a filter, and how single recordings are added.
import { useState } from "preact/hooks";

import { recordings } from "../api/calls";
import type { Recording } from "../api/types";
import { useSettled, useTitle } from "../lib/hooks";
import { useInTurn } from "../lib/turns";
import { usePages } from "../lib/pages";
import { to } from "../lib/router";
import { clock, counted, lasting, onDay, placeName, type Tone } from "../lib/words";
import { Badge, Empty, Failure, Loading, More, Warnings } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { useGalleries, useGallery } from "../parts/Gallery";
import { Icon } from "../parts/Icon";
import { PageHead } from "../parts/PageHead";
import { RecordingInput } from "../parts/RecordingInput";
import { useSession } from "../parts/Session";
import { RecordingPage } from "./Recording";

const ROWS = 50;

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
  const { reload: recount } = useGalleries();
  const session = useSession();
  const [typed, setTyped] = useState("");
  const [state, setState] = useState("");
  const [adding, setAdding] = useState(false);
  const q = useSettled(typed.trim());
  const found = usePages(
    (cursor, signal) => recordings.list(gallery.name, { q, state, cursor, limit: ROWS }, signal),
    [gallery.name, q, state],
  );
  const filtered = q !== "" || state !== "";
  const add = session.may("write") && (
    <button type="button" class="button primary" onClick={() => setAdding(true)}>
      <Icon name="plus" />
      Add recordings
    </button>
  );

  return (
    <>
      <PageHead title="Recordings" lead={`${counted(gallery.recordings, "recording")} in ${gallery.name}, ${lasting(gallery.duration_s)}`}>
        {add}
      </PageHead>
      {(filtered || found.items.length > 0) && (
        <div class="row filter">
          <label class="field grow">
            <span class="field-name">Place</span>
            <input type="search" value={typed} placeholder="Part of a file's name or folder" onInput={(event) => setTyped(event.currentTarget.value)} />
          </label>
          <label class="field">
            <span class="field-name">State</span>
            <select value={state} onChange={(event) => setState(event.currentTarget.value)}>
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
      <Failure error={found.error} retry={found.reload} />
      {found.items.length > 0 && <Table items={found.items} />}
      {found.loading && found.items.length === 0 && <Loading />}
      {!found.loading && !found.error && found.items.length === 0 && (
        <Empty icon="recordings" title={filtered ? "No recording fits the filter" : "The archive is empty"}>
          {filtered ? (
            <button type="button" class="button" onClick={() => (setTyped(""), setState(""))}>
              Show all
            </button>
          ) : (
            <>
              <p>Add recordings one by one, or take in a whole folder as a job.</p>
              <div class="row">
                {add}
                <a class="button" href={to("jobs", [], { start: "yes" })}>
                  Take a folder in
                </a>
              </div>
            </>
          )}
        </Empty>
      )}
      <More cursor={found.cursor} busy={found.loading} onMore={found.more} />
      {adding && (
        <Dialog
          title="Add recordings"
          onClose={() => {
            setAdding(false);
            found.reload();
            recount();
          }}
        >
          <AddForm gallery={gallery.name} />
        </Dialog>
      )}
    </>
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
