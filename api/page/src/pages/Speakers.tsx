// Everybody who is enrolled: a list with a filter, and how somebody new is enrolled.
import { speakers } from "../api/calls";
import type { Speaker } from "../api/types";
import { useCollection } from "../lib/collection";
import { useTitle } from "../lib/hooks";
import { to } from "../lib/router";
import { count, counted, lasting, onDay } from "../lib/words";
import { Badge } from "../parts/Basics";
import { CollectionPage } from "../parts/CollectionPage";
import { EnrollForm } from "../parts/EnrollForm";
import { useGallery } from "../parts/Gallery";
import { Icon } from "../parts/Icon";
import { SpeakerPage } from "./Speaker";

export function Speakers({ rest }: { rest: string[] }) {
  const [name] = rest;
  return name === undefined ? <List /> : <SpeakerPage name={name} key={name} />;
}

function List() {
  useTitle("Speakers");
  const gallery = useGallery();
  const found = useCollection("speakers", "enroll", (of, { q, choice: label, ...page }, signal) =>
    speakers.list(of, { q, label: label ? [label] : [], ...page }, signal),
  );
  return (
    <CollectionPage
      found={found}
      icon="speakers"
      words={{
        title: "Speakers",
        lead: `${counted(gallery.speakers, "speaker")} in ${gallery.name}`,
        add: "Enroll a speaker",
        sought: "Name",
        soughtHint: "Part of a name",
        noneFits: "Nobody fits the filter",
        showAll: "Show everybody",
        none: "Nobody is enrolled yet",
        noneHint: "People are enrolled one by one, or from a folder that has a folder for each person.",
      }}
      filter={
        found.choice && (
          <button type="button" class="button" onClick={() => found.setChoice("")}>
            {`Label ${found.choice}`}
            <Icon name="close" size={14} />
          </button>
        )
      }
      form={<EnrollForm gallery={gallery} />}
    >
      <Table items={found.items} onLabel={found.setChoice} />
    </CollectionPage>
  );
}

function Table({ items, onLabel }: { items: readonly Speaker[]; onLabel: (label: string) => void }) {
  // Columns that would be empty from top to bottom are left out.
  const labels = items.some((one) => one.labels.length > 0);
  const consents = items.some((one) => one.consent_reference !== null);
  return (
    <div class="card table-card">
      <table aria-label="Speakers">
        <thead>
          <tr>
            <th scope="col">Name</th>
            {labels && (
              <th scope="col" class="wide-only">
                Labels
              </th>
            )}
            {consents && (
              <th scope="col" class="wide-only">
                Consent
              </th>
            )}
            <th scope="col" class="numeric">
              Recordings
            </th>
            <th scope="col" class="numeric">
              Enrolled speech
            </th>
            <th scope="col" class="wide-only numeric">
              Added
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((one) => (
            <tr key={one.name}>
              <th scope="row">
                <a href={to("speakers", [one.name])}>{one.name}</a>
              </th>
              {labels && (
                <td class="wide-only">
                  <span class="row">
                    {one.labels.map((each) => (
                      <button type="button" class="tag" key={each} onClick={() => onLabel(each)}>
                        {each}
                      </button>
                    ))}
                  </span>
                </td>
              )}
              {consents && <td class="wide-only">{one.consent_reference ?? "–"}</td>}
              <td class="numeric">{count(one.recordings)}</td>
              <td class="numeric">
                {one.enrolled_utterances ? lasting(one.enrolled_s) : <Badge tone="maybe">no voice yet</Badge>}
              </td>
              <td class="wide-only numeric">{onDay(one.created_at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
