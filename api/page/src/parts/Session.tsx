// Who is at the page, and the door where the service needs a key.
import { createContext, type ComponentChildren } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

import { session as calls } from "../api/calls";
import { whenSignedOut } from "../api/http";
import type { Session } from "../api/types";
import { useDo, useLoad, useTitle } from "../lib/hooks";
import { Failure, Field, Loading } from "./Basics";
import { Logo } from "./Logo";

export type Scope = Session["scopes"][number];

type Present = Session & {
  may: (scope: Scope) => boolean;
  signOut: () => Promise<void>;
};

const Who = createContext<Present | null>(null);

export function useSession(): Present {
  const who = useContext(Who);
  if (who === null) throw new Error("useSession outside SessionProvider");
  return who;
}

/** What is shown in place of a control for adding something that a key may not add. */
export function NotWithThisKey() {
  return <p class="muted">Your key may look and not add. Whoever runs this service can give you one that may.</p>;
}

export function SessionProvider({ children }: { children: ComponentChildren }) {
  const { data, error, reload } = useLoad((signal) => calls.show(signal), []);
  const [changed, setChanged] = useState<Session | null>(null);
  const shown = changed ?? data;
  // A refused request tells it; asking again says whether it was the session or the one request.
  useEffect(() => {
    whenSignedOut(() => void calls.show().then(setChanged, () => undefined));
  }, []);
  if (error) return <Failure error={error} retry={reload} />;
  if (shown === null) return <Loading />;
  if (shown.state === "signed_out") return <SignIn onSignedIn={setChanged} />;
  const present: Present = {
    ...shown,
    may: (scope) => shown.scopes.includes(scope),
    signOut: async () => setChanged(await calls.signOut()),
  };
  return <Who.Provider value={present}>{children}</Who.Provider>;
}

function SignIn({ onSignedIn }: { onSignedIn: (session: Session) => void }) {
  useTitle("Sign in");
  const [key, setKey] = useState("");
  const trying = useDo(async () => onSignedIn(await calls.signIn(key.trim())));
  return (
    <main class="sign-in">
      <form
        class="card form"
        onSubmit={(event) => {
          event.preventDefault();
          void trying.run();
        }}
      >
        <Logo />
        <h1>Sign in</h1>
        <p class="muted">This service needs a key. Whoever runs it makes one with voxdex key create.</p>
        <Field name="API key">
          <input
            type="password"
            required
            autocomplete="current-password"
            spellcheck={false}
            placeholder="vdx_…"
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </Field>
        <Failure error={trying.error} />
        <button class="button primary" disabled={trying.busy || key.trim() === ""}>
          {trying.busy ? "Signing in…" : "Sign in"}
        </button>
      </form>
    </main>
  );
}
