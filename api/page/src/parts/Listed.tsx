// A list that comes in pages: while it loads, when there is nothing in it, when it cannot be had, and what follows.
import type { ComponentChildren } from "preact";

import type { Pages } from "../lib/pages";
import { Failure, Loading, More } from "./Basics";

interface Shown {
  found: Pages<unknown>;
  /** What is shown where it holds nothing: what to do about it. */
  empty: ComponentChildren;
  /** The rows that were read. */
  children: ComponentChildren;
}

export function Listed({ found, empty, children }: Shown) {
  const none = found.items.length === 0;
  return (
    <>
      <Failure error={found.error} retry={found.reload} />
      {!none && children}
      {none && found.loading && !found.known && <Loading />}
      {none && found.known && found.error === null && empty}
      <More cursor={found.cursor} busy={found.loading} shown={found.items.length} onMore={found.more} />
    </>
  );
}
