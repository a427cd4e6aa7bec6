// Enrolled stretches that a voice resembles, the best first.
import type { BestEnrollment } from "../api/types";
import { recordings } from "../api/calls";
import { to } from "../lib/router";
import { clock, cosine, placeName } from "../lib/words";
import { PlayStretch } from "./Basics";
import { Link } from "./Link";
import { useSession } from "./Session";

export function Stretches({ gallery, items, called }: { gallery: string; items: readonly BestEnrollment[]; called: string }) {
  const session = useSession();
  return (
    <ul class="stretches" aria-label={called}>
      {items.map((one) => (
        <li key={one.utterance_id}>
          {session.may("read") && (
            <PlayStretch source={stretchOf(gallery, one)} name={`${placeName(one.uri)} at ${clock(one.start_s)}`} />
          )}
          <Link look="ellipsis" href={to("recordings", [one.recording_id])}>
            {placeName(one.uri)}
          </Link>
          <span class="hint number">{`${clock(one.start_s)}–${clock(one.end_s)} · score ${cosine(one.score)}`}</span>
        </li>
      ))}
    </ul>
  );
}

interface Heard {
  recording_id: number;
  start_s: number;
  end_s: number;
  channel?: number | null;
}

/** Where a stretch of a recording is heard. */
export function stretchOf(gallery: string, stretch: Heard): string {
  return recordings.audio(gallery, stretch.recording_id, {
    start_s: stretch.start_s,
    end_s: stretch.end_s,
    channels: stretch.channel === null || stretch.channel === undefined ? undefined : String(stretch.channel),
  });
}
