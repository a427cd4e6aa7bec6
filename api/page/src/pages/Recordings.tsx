// What the archive holds: a list with a filter, and how single recordings are added.
import { recordings } from "../api/calls";
import type { Recording } from "../api/types";
import { useCollection } from "../lib/collection";
import { useTitle } from "../lib/hooks";
import { to } from "../lib/router";
import { useInTurn } from "../lib/turns";
import { clock, counted, lasting, onDay, placeName, type Tone } from "../lib/words";
import { Badge, Loading, Warnings } from "../parts/Basics";
import { CollectionPage } from "../parts/CollectionPage";
import { useGallery } from "../parts/Gallery";
import { RecordingInput } from "../parts/RecordingInput";
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
  const found = useCollection("recordings", "add", (of, { choice: state, ...asked }, signal) =>
    recordings.list(of, { state, ...asked }, signal),
  );
  return (
    <CollectionPage
      found={found}
      icon="recordings"
      words={{
        title: "Recordings",
        lead: `${counted(gallery.recordings, "recording")} in ${gallery.name}, ${lasting(gallery.duration_s)}`,
        add: "Add recordings",
        sought: "Place",
        soughtHint: "Part of a file's name or folder",
        noneFits: "No recording fits the filter",
        showAll: "Show all",
        none: "The archive is empty",
        noneHint: "Recordings are added one by one, or taken in as a folder by a job.",
      }}
      filter={
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
      }
      form={<AddForm gallery={gallery.name} />}
    >
      <Table items={found.items} />
    </CollectionPage>
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
