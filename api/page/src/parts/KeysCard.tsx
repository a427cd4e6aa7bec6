// Keys to the service: made, shown once, revoked.
import { useState } from "preact/hooks";

import { keys } from "../api/calls";
import type { CreatedKey, Key, KeyRequest } from "../api/types";
import { useDo } from "../lib/hooks";
import { usePages } from "../lib/pages";
import { at, onDay } from "../lib/words";
import { Badge, Failure, Field, More } from "./Basics";
import { Dialog } from "./Dialog";
import { useGalleries } from "./Gallery";
import { useSession } from "./Session";

export function KeysCard() {
  const session = useSession();
  const found = usePages((cursor, signal) => keys.list({ cursor }, signal), []);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key | null>(null);
  return (
    <section aria-label="Keys">
      <div class="row section">
        <h2>Keys</h2>
        <button type="button" class="button end" onClick={() => setMaking(true)}>
          Make a key
        </button>
      </div>
      <Failure error={found.error} retry={found.reload} />
      {!found.loading && found.items.length === 0 && (
        <p class="muted">
          There is none: the service is open to whoever sits at this machine. As soon as there is a key, everybody needs one.
        </p>
      )}
      {found.items.length > 0 && (
        <ul class="card hits" aria-label="Keys">
          {found.items.map((one) => (
            <li class="hit" key={one.public_id}>
              <div class="hit-head centered">
                <span class="hit-name">{one.name || <code>{one.public_id}</code>}</span>
                <Badge tone={one.revoked_at ? "bad" : "none"}>{one.revoked_at ? "revoked" : one.scopes.join(", ")}</Badge>
                {one.public_id === session.key && <Badge tone="good">yours</Badge>}
                <span class="hint number">
                  {`${one.gallery ?? "every gallery"} · made ${onDay(one.created_at)} · ${one.last_used_at ? `last used ${at(one.last_used_at)}` : "never used"}`}
                </span>
                {!one.revoked_at && (
                  <button type="button" class="button quiet danger end" aria-label={`Revoke ${one.name || one.public_id}`} onClick={() => setRevoking(one)}>
                    Revoke
                  </button>
                )}
              </div>
            </li>
          ))}
        </ul>
      )}
      <More cursor={found.cursor} busy={found.loading} shown={found.items.length} onMore={found.more} />
      {making && (
        <Dialog
          title="Make a key"
          onClose={() => {
            setMaking(false);
            found.reload();
          }}
        >
          <KeyForm firstOne={session.state === "open" && found.items.length === 0} />
        </Dialog>
      )}
      {revoking && <Revoke revoked={revoking} onClose={() => setRevoking(null)} onDone={found.reload} />}
    </section>
  );
}

const SCOPES: { scope: KeyRequest["scopes"][number]; words: string }[] = [
  { scope: "identify", words: "identify: ask about voices" },
  { scope: "read", words: "read: see and listen to what is stored" },
  { scope: "write", words: "write: enroll, upload, start jobs, delete; includes read" },
  { scope: "admin", words: "admin: galleries and keys; includes all of these" },
];

function KeyForm({ firstOne }: { firstOne: boolean }) {
  const { list } = useGalleries();
  const [name, setName] = useState("");
  const [gallery, setGallery] = useState("");
  // The first key closes the door: it must be one that opens everything, or nobody can make another here.
  const [scopes, setScopes] = useState<ReadonlySet<string>>(new Set([firstOne ? "admin" : "identify"]));
  const [made, setMade] = useState<CreatedKey | null>(null);
  const everything = scopes.has("admin");
  const making = useDo(async () => {
    const wanted = SCOPES.map((one) => one.scope).filter((one) => scopes.has(one));
    setMade(await keys.make({ scopes: wanted, name: name.trim() || null, gallery: (!everything && gallery) || null }));
  });
  if (made) return <Made made={made} />;
  const toggle = (scope: string) => {
    const next = new Set(scopes);
    if (!next.delete(scope)) next.add(scope);
    setScopes(next);
  };
  return (
    <form
      class="form"
      onSubmit={(event) => {
        event.preventDefault();
        void making.run();
      }}
    >
      {firstOne && (
        <p class="notice tone-maybe">This is the first key: from then on everybody needs one, you as well. Keep it at hand.</p>
      )}
      <Field name="Name (optional)">
        <input value={name} placeholder="call center" onInput={(event) => setName(event.currentTarget.value)} />
      </Field>
      <fieldset class="stack">
        <legend class="field-name">May</legend>
        {SCOPES.map(({ scope, words }) => (
          <label class="check" key={scope}>
            <input type="checkbox" checked={scopes.has(scope)} onChange={() => toggle(scope)} />
            {words}
          </label>
        ))}
      </fieldset>
      <Field name="Opens" {...(everything && { hint: "A key with admin opens every gallery." })}>
        <select value={everything ? "" : gallery} disabled={everything} onChange={(event) => setGallery(event.currentTarget.value)}>
          <option value="">every gallery</option>
          {list.map((one) => (
            <option key={one.name} value={one.name}>
              {`only ${one.name}`}
            </option>
          ))}
        </select>
      </Field>
      <Failure error={making.error} />
      <div class="dialog-foot">
        <button class="button primary" disabled={making.busy || scopes.size === 0}>
          Make the key
        </button>
      </div>
    </form>
  );
}

function Made({ made }: { made: CreatedKey }) {
  const [copied, setCopied] = useState(false);
  return (
    <div class="stack" role="status">
      <p>This is the key. It is shown this once and kept nowhere: copy it now.</p>
      <p class="secret">
        <code>{made.key}</code>
      </p>
      <div class="dialog-foot">
        <button type="button" class="button" onClick={() => void navigator.clipboard.writeText(made.key).then(() => setCopied(true))}>
          {copied ? "Copied" : "Copy"}
        </button>
      </div>
    </div>
  );
}

function Revoke({ revoked, onClose, onDone }: { revoked: Key; onClose: () => void; onDone: () => void }) {
  const doing = useDo(async () => {
    await keys.revoke(revoked.public_id);
    onClose();
    onDone();
  });
  return (
    <Dialog title={`Revoke ${revoked.name || revoked.public_id}`} onClose={onClose}>
      <p>It is worthless at once, and cannot be brought back. Programs that use it are refused from now on.</p>
      <Failure error={doing.error} />
      <div class="dialog-foot">
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" class="button danger" disabled={doing.busy} onClick={() => void doing.run()}>
          Revoke
        </button>
      </div>
    </Dialog>
  );
}
