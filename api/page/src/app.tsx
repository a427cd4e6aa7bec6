// The frame of every page: navigation, gallery, theme, session.
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { useRoute, to } from "./lib/router";
import { useThemeChoice, type Choice } from "./lib/theme";
import { Empty } from "./parts/Basics";
import { FirstGallery, GalleriesProvider, GalleryChooser, NameGallery, useGalleries } from "./parts/Gallery";
import { Icon, type IconName } from "./parts/Icon";
import { Logo } from "./parts/Logo";
import { SessionProvider, useSession, type Scope } from "./parts/Session";
import { Identify } from "./pages/Identify";
import { Jobs } from "./pages/Jobs";
import { Quality } from "./pages/Quality";
import { Recordings } from "./pages/Recordings";
import { Search } from "./pages/Search";
import { Speakers } from "./pages/Speakers";
import { System } from "./pages/System";
import { Unknown } from "./pages/Unknown";
import { Verify } from "./pages/Verify";

interface Place {
  page: string;
  name: string;
  icon: IconName;
  scope: Scope;
  show: ComponentType<{ rest: string[] }>;
}

const GROUPS: { name: string; places: Place[] }[] = [
  {
    name: "Ask",
    places: [
      { page: "identify", name: "Identify", icon: "identify", scope: "identify", show: Identify },
      { page: "verify", name: "Verify", icon: "verify", scope: "identify", show: Verify },
      { page: "search", name: "Search", icon: "search", scope: "identify", show: Search },
    ],
  },
  {
    name: "Collection",
    places: [
      { page: "speakers", name: "Speakers", icon: "speakers", scope: "read", show: Speakers },
      { page: "recordings", name: "Recordings", icon: "recordings", scope: "read", show: Recordings },
      { page: "unknown", name: "Unknown voices", icon: "unknown", scope: "read", show: Unknown },
      { page: "jobs", name: "Jobs", icon: "jobs", scope: "read", show: Jobs },
    ],
  },
  {
    name: "Service",
    places: [
      { page: "quality", name: "Quality", icon: "quality", scope: "read", show: Quality },
      { page: "system", name: "System", icon: "system", scope: "read", show: System },
    ],
  },
];

export function App() {
  return (
    <SessionProvider>
      <GalleriesProvider>
        <Frame />
      </GalleriesProvider>
    </SessionProvider>
  );
}

function Frame() {
  const route = useRoute();
  const session = useSession();
  const { name: gallery } = useGalleries();
  const [open, setOpen] = useState(false);
  const main = useRef<HTMLElement>(null);
  const groups = GROUPS.map((group) => ({ ...group, places: group.places.filter((one) => session.may(one.scope)) }));
  const places = groups.flatMap((group) => group.places);
  // Without an address, the first page that the key may see.
  const opening = places[0]?.page ?? "identify";
  const page = route.page || opening;
  const place = places.find((one) => one.page === page);
  const address = [page, ...route.rest].join("/");
  const first = useRef(true);
  useEffect(() => {
    setOpen(false);
    // Whoever hears the page is told that another one is shown; the first one is told by the browser.
    if (!first.current) main.current?.focus();
    first.current = false;
    window.scrollTo(0, 0);
  }, [address]);
  // Everything can be used from here on; `python -m tests.reports.page` measures when that is.
  useEffect(() => void performance.mark("usable"), []);
  const Page = place?.show;

  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>
        Skip to the page
      </a>
      <header class="top">
        <button
          type="button"
          class="button quiet menu-button"
          aria-expanded={open}
          aria-controls="sidebar"
          aria-label="Menu"
          onClick={() => setOpen(!open)}
        >
          <Icon name={open ? "close" : "menu"} />
        </button>
        <Logo />
      </header>
      <aside id="sidebar" class={open ? "sidebar open" : "sidebar"}>
        <a class="home" href={to(opening)} aria-label="voxdex, to the first page">
          <Logo />
        </a>
        <GalleryChooser />
        <nav aria-label="Main">
          {groups.map(
            (group) =>
              group.places.length > 0 && (
                <div class="nav-group" key={group.name}>
                  <p class="nav-name" aria-hidden="true">
                    {group.name}
                  </p>
                  {group.places.map((one) => (
                    <a
                      key={one.page}
                      href={to(one.page)}
                      class="nav-link"
                      {...(one.page === page && { "aria-current": "page" as const })}
                    >
                      <Icon name={one.icon} />
                      {one.name}
                    </a>
                  ))}
                </div>
              ),
          )}
        </nav>
        <div class="sidebar-foot">
          <ThemeButton />
          <SignedIn />
        </div>
      </aside>
      <main id="main" tabIndex={-1} ref={main} aria-label={place?.name ?? "Page"}>
        {gallery === null && page !== "system" ? (
          session.may("read") ? <FirstGallery /> : <NameGallery />
        ) : Page ? (
          <Page key={`${gallery ?? ""}:${page}`} rest={route.rest} />
        ) : (
          <Empty alone icon="search" title="There is no such page">
            <p>Choose one on the left, or one that your key may see.</p>
          </Empty>
        )}
      </main>
    </div>
  );
}

const NEXT: Record<Choice, Choice> = { system: "light", light: "dark", dark: "system" };
const ICONS: Record<Choice, IconName> = { system: "auto", light: "sun", dark: "moon" };

function ThemeButton() {
  const [choice, setChoice] = useThemeChoice();
  return (
    <button type="button" class="button quiet" onClick={() => setChoice(NEXT[choice])}>
      <Icon name={ICONS[choice]} />
      {`Theme: ${choice}`}
    </button>
  );
}

function SignedIn() {
  const session = useSession();
  if (session.state !== "signed_in") return null;
  return (
    <button type="button" class="button quiet" onClick={() => void session.signOut()}>
      {`Sign out ${session.name ?? ""}`}
    </button>
  );
}
