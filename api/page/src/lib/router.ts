// Routes live in the fragment: names of people are never sent to the server as an address of a page.
import { useEffect, useState } from "preact/hooks";

export interface Route {
  /** First segment: which page; empty where the address says none. */
  page: string;
  /** The others, decoded. */
  rest: string[];
  query: URLSearchParams;
}

/** Write the address of a page, for `href`. */
export function to(page: string, rest: readonly (string | number)[] = [], query: Record<string, string> = {}): string {
  const place = [page, ...rest].map((segment) => encodeURIComponent(String(segment))).join("/");
  const asked = new URLSearchParams(query).toString();
  return `#/${place}${asked ? `?${asked}` : ""}`;
}

export function go(address: string): void {
  window.location.hash = address.replace(/^#/, "");
}

/** Change the address of what is shown already: nothing is shown anew, and the way back leads past it. */
export function instead(address: string): void {
  window.history.replaceState(window.history.state, "", address);
}

/** How far a list was read and where in it one was: this entry of the history keeps it for when somebody comes back. */
interface Left {
  pages: number;
  scroll: number;
}

export function left(): Left {
  return { pages: 1, scroll: 0, ...(window.history.state as Partial<Left> | null) };
}

export function leave(changed: Partial<Left>): void {
  window.history.replaceState({ ...left(), ...changed }, "");
}

export function useRoute(): Route {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const follow = () => setRoute(read());
    window.addEventListener("hashchange", follow);
    return () => window.removeEventListener("hashchange", follow);
  }, []);
  return route;
}

function read(): Route {
  const [place = "", asked = ""] = window.location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = place.split("/").map(decoded);
  return { page, rest, query: new URLSearchParams(asked) };
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // Somebody typed a lone %.
  }
}
