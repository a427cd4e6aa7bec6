// What runs: whether it is well, its indexes, encoders, workers, galleries and keys.
import { service } from "../api/calls";
import type { Encoder, Readiness, System as SystemDocument } from "../api/types";
import { useLoad, useTitle } from "../lib/hooks";
import { bytes, count, counted, lasting, type Tone } from "../lib/words";
import { Badge, Failure, Figure, Loading } from "../parts/Basics";
import { GalleriesCard } from "../parts/GalleriesCard";
import { KeysCard } from "../parts/KeysCard";
import { PageHead } from "../parts/PageHead";
import { useSession } from "../parts/Session";

export function System() {
  useTitle("System");
  const session = useSession();
  const system = useLoad((signal) => service.system(signal), []);
  const ready = useLoad((signal) => service.readiness(signal), []);
  const stats = useLoad((signal) => service.stats(signal), []);
  return (
    <>
      <PageHead title="System" lead={`voxdex ${session.version}`}>
        <button
          type="button"
          class="button"
          onClick={() => {
            system.reload();
            ready.reload();
            stats.reload();
          }}
        >
          Look again
        </button>
      </PageHead>
      <Failure error={system.error ?? ready.error ?? stats.error} />
      <div class="stack">
        {stats.data && (
          <section class="card" aria-label="In short">
            <dl class="figures">
              <Figure name="Galleries">{count(stats.data.galleries)}</Figure>
              <Figure name="Speakers">{count(stats.data.speakers)}</Figure>
              <Figure name="Recordings">{count(stats.data.recordings)}</Figure>
              <Figure name="Vectors">{count(stats.data.embeddings)}</Figure>
              <Figure name="Audio">{lasting(stats.data.duration_s)}</Figure>
            </dl>
          </section>
        )}
        <div class="columns">
          {ready.data && <Health ready={ready.data} />}
          {system.data && <Workers system={system.data} />}
        </div>
        {system.data === null && system.loading && <Loading />}
        {system.data && <Indexes system={system.data} />}
        <Encoders />
        <GalleriesCard />
        {session.may("admin") && <KeysCard />}
      </div>
    </>
  );
}

const PARTS: Record<string, string> = { database: "Database", broker: "Broker", encoder: "Encoder", index: "Index" };
const PROBLEMS: Record<string, string> = {
  loading: "still loading",
  behind: "behind the database",
  timeout: "does not answer in time",
};

function Health({ ready }: { ready: Readiness }) {
  const parts = Object.entries(PARTS).flatMap(([part, name]) => {
    const check = ready[part as "database" | "broker" | "encoder" | "index"];
    return check ? [{ name, ok: check.ok, problem: check.problem ?? null }] : [];
  });
  return (
    <section class="card" aria-label="Health">
      <div class="card-head">
        <h2>Health</h2>
        <Badge tone={ready.ready ? "good" : "bad"}>{ready.ready ? "ready" : "not ready"}</Badge>
      </div>
      <ul class="rows">
        {parts.map((part) => (
          <li key={part.name}>
            <span>{part.name}</span>
            <Badge tone={part.ok ? "good" : "bad"}>
              {part.ok ? "in order" : (PROBLEMS[part.problem ?? ""] ?? part.problem ?? "at fault")}
            </Badge>
          </li>
        ))}
      </ul>
    </section>
  );
}

const DATABASES: Record<SystemDocument["database"], string> = { sqlite: "SQLite", postgresql: "PostgreSQL" };
const QUEUES: Record<string, string> = { local: "Shards that wait", probes: "Questions that wait" };

function Workers({ system }: { system: SystemDocument }) {
  const queues = Object.entries(system.queues);
  return (
    <section class="card" aria-label="Workers">
      <div class="card-head">
        <h2>Workers</h2>
        <span class="hint">{`${DATABASES[system.database]}, device ${system.device}`}</span>
      </div>
      {system.jobs_run === "here" ? (
        <p class="muted">Jobs run in this process. With a broker, any number of workers on any number of machines do them.</p>
      ) : system.workers.length === 0 ? (
        <p class="muted">No worker has anything to do now.</p>
      ) : (
        <ul class="rows">
          {system.workers.map((one) => (
            <li key={one.name}>
              <span class="break">{one.name}</span>
              <span class="hint">{one.state}</span>
            </li>
          ))}
        </ul>
      )}
      {queues.length > 0 && (
        <dl class="figures">
          {queues.map(([name, length]) => (
            <Figure key={name} name={QUEUES[name] ?? `Queue ${name}`}>
              {count(length)}
            </Figure>
          ))}
        </dl>
      )}
      <p class="hint">{`${bytes(system.media_bytes_free)} free for uploaded audio`}</p>
    </section>
  );
}

function lagTone(changes: number, lag: number): Tone {
  if (changes === 0) return "good";
  return lag > 5 ? "bad" : "maybe";
}

function Indexes({ system }: { system: SystemDocument }) {
  return (
    <section aria-label="Indexes">
      <h2 class="section">Indexes</h2>
      {system.indexes.length === 0 && <p class="muted">None is open: a gallery's index is opened by the first question to it.</p>}
      {system.indexes.length > 0 && (
        <div class="card table-card">
          <table aria-label="Indexes">
            <thead>
              <tr>
                <th scope="col">Gallery</th>
                <th scope="col" class="wide-only">
                  Kind
                </th>
                <th scope="col" class="numeric">
                  Vectors
                </th>
                <th scope="col" class="wide-only numeric">
                  Memory
                </th>
                <th scope="col" class="wide-only numeric">
                  On disk
                </th>
                <th scope="col" class="numeric">
                  Lag
                </th>
              </tr>
            </thead>
            <tbody>
              {system.indexes.map((one) => (
                <tr key={`${one.gallery}:${one.encoder_id}`}>
                  <th scope="row" title={one.encoder_id}>
                    {one.gallery}
                  </th>
                  <td class="wide-only">{one.kind}</td>
                  <td class="numeric">{count(one.vectors)}</td>
                  <td class="wide-only numeric">{bytes(one.memory_bytes)}</td>
                  <td class="wide-only numeric">{bytes(one.mapped_bytes)}</td>
                  <td class="numeric">
                    <Badge tone={lagTone(one.changes_behind, one.lag_s)}>
                      {one.changes_behind === 0 ? "in step" : `${counted(one.changes_behind, "change")}, ${lasting(one.lag_s)} behind`}
                    </Badge>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function published({ published_eer }: Encoder): string {
  return published_eer.startsWith("not published") ? "no published error" : `published error ${published_eer}`;
}

function Encoders() {
  const { data, error } = useLoad((signal) => service.encoders(signal), []);
  return (
    <section aria-label="Encoders">
      <h2 class="section">Encoders</h2>
      <Failure error={error} />
      {data && (
        <ul class="card hits" aria-label="Encoders">
          {data.items.map((one) => (
            <li class="hit" key={one.name}>
              <div class="hit-head">
                <span class="hit-name">{one.name}</span>
                {one.default && <Badge tone="good">default</Badge>}
                {!one.here && <Badge tone="none">not fetched</Badge>}
                <span class="hint number end">{`${published(one)} · ${one.license}`}</span>
              </div>
              <p class="hint">{one.description}</p>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
