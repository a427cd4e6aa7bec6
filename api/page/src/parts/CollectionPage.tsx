// The page of a list that a gallery has: narrowed by a part of a name and one more choice, and added to in a dialog.
import type { ComponentChildren } from "preact";

import type { Collection } from "../lib/collection";
import { to } from "../lib/router";
import { Empty } from "./Basics";
import { Dialog } from "./Dialog";
import { Icon, type IconName } from "./Icon";
import { Listed } from "./Listed";
import { PageHead } from "./PageHead";
import { NotWithThisKey, useSession } from "./Session";

export interface CollectionWords {
  title: string;
  lead: string;
  /** The button that adds to the list, and the dialog that it opens. */
  add: string;
  /** What is searched for, by a part of it. */
  sought: string;
  soughtHint: string;
  /** Where nothing fits the filter, and what takes the filter away. */
  noneFits: string;
  showAll: string;
  /** Where there is nothing at all, and how that changes. */
  none: string;
  noneHint: string;
}

interface Shown {
  found: Collection<unknown>;
  icon: IconName;
  words: CollectionWords;
  /** What else narrows the list. */
  filter: ComponentChildren;
  /** What is in the dialog that adds to it. */
  form: ComponentChildren;
  /** The rows that were read. */
  children: ComponentChildren;
}

export function CollectionPage({ found, icon, words, filter, form, children }: Shown) {
  const session = useSession();
  const add = session.may("write") && (
    <button type="button" class="button primary" onClick={found.add}>
      <Icon name="plus" />
      {words.add}
    </button>
  );
  return (
    <>
      <PageHead title={words.title} lead={words.lead}>
        {add}
      </PageHead>
      {(found.narrowed || found.items.length > 0) && (
        <div class="row filter">
          <label class="field grow">
            <span class="field-name">{words.sought}</span>
            <input type="search" value={found.typed} placeholder={words.soughtHint} onInput={(event) => found.setTyped(event.currentTarget.value)} />
          </label>
          {filter}
        </div>
      )}
      <Listed found={found} empty={<Nothing found={found} icon={icon} words={words} add={add} />}>
        {children}
      </Listed>
      {found.adding && (
        <Dialog title={words.add} onClose={found.added}>
          {form}
        </Dialog>
      )}
    </>
  );
}

function Nothing({ found, icon, words, add }: Pick<Shown, "found" | "icon" | "words"> & { add: ComponentChildren }) {
  if (found.narrowed) {
    return (
      <Empty icon={icon} title={words.noneFits}>
        <button type="button" class="button" onClick={found.showAll}>
          {words.showAll}
        </button>
      </Empty>
    );
  }
  return (
    <Empty icon={icon} title={words.none}>
      <p>{words.noneHint}</p>
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
