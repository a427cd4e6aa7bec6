// Everybody who is enrolled: a list with a filter, and how somebody new is enrolled.
import { useState } from "preact/hooks";

import { speakers } from "../api/calls";
import type { Speaker } from "../api/types";
import { useSettled, useTitle } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { go, to, useRoute } from "../lib/router";
import { count, counted, lasting, onDay } from "../lib/words";
import { Badge, Empty, Failure, Loading, More } from "../parts/Basics";
import { Dialog } from "../parts/Dialog";
import { EnrollForm } from "../parts/EnrollForm";
import { useGalleries, useGallery } from "../parts/Gallery";
import { Icon } from "../parts/Icon";
import { PageHead } from "../parts/PageHead";
import { useSession } from "../parts/Session";
import { SpeakerPage } from "./Speaker";

const ROWS = 50;

export function Speakers({ rest }: { rest: string[] }) {
  const [name] = rest;
  return name === undefined ? <List /> : <SpeakerPage name={name} key={name} />;
}

function List() {
  useTitle("Speakers");
  const gallery = useGallery();
  const { reload: recount } = useGalleries();
  const session = useSession();
  const route = useRoute();
  const [typed, setTyped] = useState("");
  const [label, setLabel] = useState("");
  const q = useSettled(typed.trim());
  const [enrolling, setEnrolling] = useState(route.query.has("enroll"));
  const found = usePages(
    (cursor, signal) => speakers.list(gallery.name, { q, label: label ? [label] : [], cursor, limit: ROWS }, signal),
    [gallery.name, q, label],
  );
  const filtered = q !== "" || label !== "";
  const enroll = session.may("write") && (
    <button type="button" class="button primary" onClick={() => setEnrolling(true)}>
      <Icon name="plus" />
      Enroll a speaker
    </button>
  );

  return (
    <>
      <PageHead title="Speakers" lead={`${counted(gallery.speakers, "speaker")} in ${gallery.name}`}>
        {enroll}
      </PageHead>
      {(filtered || found.items.length > 0) && (
        <div class="row filter">
          <label class="field grow">
            <span class="field-name">Name</span>
            <input type="search" value={typed} placeholder="Part of a name" onInput={(event) => setTyped(event.currentTarget.value)} />
          </label>
          {label && (
            <button type="button" class="button" onClick={() => setLabel("")}>
              {`Label ${label}`}
              <Icon name="close" size={14} />
            </button>
          )}
        </div>
      )}
      <Failure error={found.error} retry={found.reload} />
      {found.items.length > 0 && (
        <Table items={found.items} onLabel={setLabel} />
      )}
      {found.loading && found.items.length === 0 && <Loading />}
      {!found.loading && !found.error && found.items.length === 0 && (
        <Empty icon="speakers" title={filtered ? "Nobody fits the filter" : "Nobody is enrolled yet"}>
          {filtered ? (
            <button type="button" class="button" onClick={() => (setTyped(""), setLabel(""))}>
              Show everybody
            </button>
          ) : (
            <>
              <p>Enroll people one by one, or take in a folder that has a folder for each person.</p>
              <div class="row">
                {enroll}
                <a class="button" href={to("jobs", [], { start: "yes" })}>
                  Take a folder in
                </a>
              </div>
            </>
          )}
        </Empty>
      )}
      <More cursor={found.cursor} busy={found.loading} onMore={found.more} />
      {enrolling && (
        <Dialog
          title="Enroll a speaker"
          onClose={() => {
            setEnrolling(false);
            found.reload();
            recount();
            if (route.query.has("enroll")) go(to("speakers"));
          }}
        >
          <EnrollForm gallery={gallery} />
        </Dialog>
      )}
    </>
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
