// A recording that is asked about: drawn, played, its speech marked and judged.
import type { ComponentChildren, RefObject } from "preact";
import { useMemo } from "preact/hooks";

import { voices } from "../api/calls";
import { ask, formOf, path } from "../api/http";
import { useLoad } from "../lib/hooks";
import { lasting } from "../lib/words";
import { Waveform, type Marked, type WaveHandle } from "./Waveform";

interface Shown {
  file: File;
  /** Stretches to mark; left out, the speech that the service hears in it. */
  marks?: readonly Marked[];
  handle?: RefObject<WaveHandle | null>;
  onDuration?: (seconds: number) => void;
  /** As a strip beside another one, begun where the first mark is. */
  small?: boolean;
  children?: ComponentChildren;
}

export function Probe({ file, marks = NONE, handle, onDuration, small, children }: Shown) {
  const decode = async (signal: AbortSignal) =>
    (await ask(path(["decode"]), { method: "POST", form: formOf({ file }), signal })).blob();
  return (
    <Waveform
      source={file}
      label={file.name}
      decode={decode}
      marks={marks}
      spectrogram={!small}
      height={small ? STRIP_PX : WAVE_PX}
      start_s={small ? (marks[0]?.start_s ?? 0) : 0}
      {...(handle && { handle })}
      {...(onDuration && { onDuration })}
    >
      {children}
    </Waveform>
  );
}

const NONE: readonly Marked[] = [];
const WAVE_PX = 72;
const STRIP_PX = 44;

/** The same where no answer says what was heard: the service is asked for that alone. */
export function InspectedProbe({ file, handle }: { file: File; handle?: RefObject<WaveHandle | null> }) {
  const { data, error } = useLoad((signal) => voices.inspect(file, POINTS, signal), [file]);
  const marks = useMemo(() => (data?.speech ?? []).map((turn) => ({ ...turn, token: "voice-0" })), [data]);
  return (
    <Probe file={file} marks={marks} {...(handle && { handle })}>
      {data && (
        <span class="hint number end">
          {data.speech_s > 0 ? `${lasting(data.speech_s)} of speech` : `no speech in ${lasting(data.end_s)}`}
        </span>
      )}
      {error && <span class="hint end tone-text-bad">{error.message}</span>}
    </Probe>
  );
}

const POINTS = 100;
