// Everybody who is enrolled: a list with a filter, and how somebody new is enrolled.
import type { ComponentChildren } from "preact";

import { speakers } from "../api/calls";
import type { Speaker } from "../api/types";
import { useCollection } from "../lib/collection";
import { useTitle } from "../lib/hooks";
import { to } from "../lib/router";
import { count, counted, lasting, onDay } from "../lib/words";
import { Badge, Empty } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { EnrollForm } from "../parts/EnrollForm";
import { useGallery } from "../parts/Gallery";
import { Icon } from "../parts/Icon";
import { Listed } from "../parts/Listed";
import { PageHead } from "../parts/PageHead";
import { NotWithThisKey, useSession } from "../parts/Session";
import { SpeakerPage } from "./Speaker";

export function Speakers({ rest }: { rest: string[] }) {
  const [name] = rest;
  return name === undefined ? <List /> : <SpeakerPage name={name} key={name} />;
}

function List() {
  useTitle("Speakers");
  const gallery = useGallery();
  const session = useSession();
  const found = useCollection("speakers", "enroll", (of, { q, choice: label, ...page }, signal) =>
    speakers.list(of, { q, label: label ? [label] : [], ...page }, signal),
  );
  const enroll = session.may("write") && (
    <button type="button" class="button primary" onClick={found.add}>
      <Icon name="plus" />
      Enroll a speaker
    </button>
  );

  return (
    <>
      <PageHead title="Speakers" lead={`${counted(gallery.speakers, "speaker")} in ${gallery.name}`}>
        {enroll}
      </PageHead>
      {(found.narrowed || found.items.length > 0) && (
        <div class="row filter">
          <label class="field grow">
            <span class="field-name">Name</span>
            <input type="search" value={found.typed} placeholder="Part of a name" onInput={(event) => found.setTyped(event.currentTarget.value)} />
          </label>
          {found.choice && (
            <button type="button" class="button" onClick={() => found.setChoice("")}>
              {`Label ${found.choice}`}
              <Icon name="close" size={14} />
            </button>
          )}
        </div>
      )}
      <Listed found={found} empty={<Nobody narrowed={found.narrowed} showAll={found.showAll} enroll={enroll} />}>
        <Table items={found.items} onLabel={found.setChoice} />
      </Listed>
      {found.adding && (
        <Dialog title="Enroll a speaker" onClose={found.added}>
          <EnrollForm gallery={gallery} />
        </Dialog>
      )}
    </>
  );
}

function Nobody({ narrowed, showAll, enroll }: { narrowed: boolean; showAll: () => void; enroll: ComponentChildren }) {
  if (narrowed) {
    return (
      <Empty icon="speakers" title="Nobody fits the filter">
        <button type="button" class="button" onClick={showAll}>
          Show everybody
        </button>
      </Empty>
    );
  }
  return (
    <Empty icon="speakers" title="Nobody is enrolled yet">
      <p>People are enrolled one by one, or from a folder that has a folder for each person.</p>
      {enroll ? (
        <div class="row">
          {enroll}
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
