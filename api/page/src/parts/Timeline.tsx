// Who speaks when: a lane for each voice, on one axis of time.
import type { ComponentChildren } from "preact";

import type { Turn } from "../api/types";
import { voiceToken } from "../lib/theme";
import { clock, counted, lasting } from "../lib/words";

export interface Lane {
  voice: number;
  name: ComponentChildren;
  /** The name as text, for assistive technology. */
  called: string;
  speech_s: number;
  turns: readonly Turn[];
}

interface Shown {
  lanes: readonly Lane[];
  duration_s: number;
  onPlay?: (turn: Turn) => void;
}

/** Turns that are stops of the Tab key; beyond, lanes are read as one. */
const MOST_STOPS = 40;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const MOST_TICKS = 8;

export function Timeline({ lanes, duration_s, onPlay }: Shown) {
  const stops = lanes.reduce((sum, lane) => sum + lane.turns.length, 0) <= MOST_STOPS;
  const place = (seconds: number) => `${((seconds / duration_s) * 100).toFixed(3)}%`;
  return (
    <div class="timeline">
      {lanes.map((lane) => (
        <div class="lane" key={lane.voice} role="group" aria-label={`${lane.called}: ${counted(lane.turns.length, "turn")}, ${lasting(lane.speech_s)}`}>
          <div class="lane-name">
            <span class="dot" style={{ background: `var(--${voiceToken(lane.voice)})` }} />
            <span class="ellipsis">{lane.name}</span>
            <span class="hint number">{lasting(lane.speech_s)}</span>
          </div>
          <div class="lane-track">
            {lane.turns.map((turn) => (
              <button
                type="button"
                key={turn.start_s}
                class="turn"
                tabIndex={stops ? 0 : -1}
                aria-label={`${lane.called} from ${clock(turn.start_s)} to ${clock(turn.end_s)}`}
                title={`${clock(turn.start_s, true)} to ${clock(turn.end_s, true)}`}
                style={{
                  left: place(turn.start_s),
                  width: place(turn.end_s - turn.start_s),
                  background: `var(--${voiceToken(lane.voice)})`,
                }}
                disabled={onPlay === undefined}
                onClick={() => onPlay?.(turn)}
              />
            ))}
          </div>
        </div>
      ))}
      <div class="lane axis" aria-hidden="true">
        <div class="lane-name" />
        <div class="lane-track">
          {ticks(duration_s).map((tick) => (
            <span class="tick number" key={tick} style={{ left: place(tick) }}>
              {clock(tick)}
            </span>
          ))}
        </div>
      </div>
    </div>
  );
}

function ticks(duration_s: number): number[] {
  const step = STEPS_S.find((one) => duration_s / one <= MOST_TICKS) ?? 7200;
  return Array.from({ length: Math.floor(duration_s / step) + 1 }, (_, tick) => tick * step).filter(
    (tick) => tick < duration_s * 0.97,
  );
}
