// A recording as a waveform with its speech marked, played; with a spectrogram where it is short enough to draw one.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import WaveSurfer from "wavesurfer.js";
import RegionsPlugin from "wavesurfer.js/dist/plugins/regions.esm.js";
import SpectrogramPlugin from "wavesurfer.js/dist/plugins/spectrogram.esm.js";

import { speaks } from "../lib/playing";
import { spectrum } from "../lib/spectrum";
import { color, useTheme } from "../lib/theme";
import { clock } from "../lib/words";
import { Icon } from "./Icon";

/** Longest recording whose spectrogram is drawn: beyond it a laptop is busy for seconds. */
export const MOST_SPECTROGRAM_S = 180;

export interface Marked {
  start_s: number;
  end_s: number;
  /** Token of its color. */
  token: string;
  label?: string;
}

export interface WaveHandle {
  play: (startS: number, endS: number) => void;
  pause: () => void;
}

interface Shown {
  /** The sound, or where it is. */
  source: Blob | string;
  /** What assistive technology calls it. */
  label: string;
  marks?: readonly Marked[];
  height?: number;
  spectrogram?: boolean;
  /** Where a source in memory cannot be decoded by the browser: how to get what can be. */
  decode?: (signal: AbortSignal) => Promise<Blob>;
  handle?: RefObject<WaveHandle | null>;
  /** Where it stands at first. */
  start_s?: number;
  onDuration?: (seconds: number) => void;
  children?: ComponentChildren;
}

const NONCE = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? "";

export function Waveform(shown: Shown) {
  const { source, label, marks, height = 72, spectrogram, decode, handle, start_s = 0, onDuration, children } = shown;
  const box = useRef<HTMLDivElement>(null);
  const surfer = useRef<WaveSurfer | null>(null);
  const regions = useRef<InstanceType<typeof RegionsPlugin> | null>(null);
  const theme = useTheme();
  const [playing, setPlaying] = useState(false);
  const [time, setTime] = useState(0);
  const [duration, setDuration] = useState(0);
  const [failed, setFailed] = useState<string | null>(null);

  useEffect(() => {
    if (box.current === null) return undefined;
    const abort = new AbortController();
    const marking = RegionsPlugin.create();
    const made = WaveSurfer.create({
      container: box.current,
      height,
      sampleRate: 16000,
      normalize: true,
      barWidth: 2,
      barGap: 1,
      barRadius: 1,
      waveColor: color("line-strong"),
      progressColor: color("accent"),
      cursorColor: color("text"),
      cursorWidth: 1,
      dragToSeek: true,
      cspNonce: NONCE,
      plugins: [marking],
    });
    surfer.current = made;
    regions.current = marking;
    const player = { pause: () => made.pause() };
    setFailed(null);
    setDuration(0);
    made.on("ready", (seconds) => {
      setDuration(seconds);
      onDuration?.(seconds);
      if (start_s > 0) made.setTime(start_s);
      if (spectrogram && seconds <= MOST_SPECTROGRAM_S) {
        made.registerPlugin(
          SpectrogramPlugin.create({
            height: 128,
            labels: true,
            labelsBackground: `${color("sunken")}b0`,
            labelsColor: color("text"),
            labelsHzColor: color("text"),
            scale: "mel",
            fftSamples: 512,
            frequencyMax: 8000,
            colorMap: spectrum(),
          }),
        );
      }
    });
    made.on("play", () => {
      speaks(player);
      setPlaying(true);
    });
    made.on("pause", () => setPlaying(false));
    made.on("finish", () => setPlaying(false));
    made.on("timeupdate", setTime);
    let tried = false;
    // What the browser cannot decode is told by the promise, by an event, or by both.
    const fallBack = async (error: unknown) => {
      if (abort.signal.aborted || tried) return;
      tried = true;
      try {
        if (!decode) throw error;
        const readable = await decode(abort.signal);
        if (!abort.signal.aborted) await made.loadBlob(readable);
      } catch (failure) {
        if (!abort.signal.aborted) setFailed(failure instanceof Error ? failure.message : String(failure));
      }
    };
    made.on("error", (error) => void fallBack(error));
    (typeof source === "string" ? made.load(source) : made.loadBlob(source)).catch(fallBack);
    if (handle) {
      handle.current = {
        play: (startS, endS) => void made.play(startS, endS),
        pause: () => made.pause(),
      };
    }
    return () => {
      abort.abort();
      made.destroy();
      surfer.current = null;
      regions.current = null;
    };
  }, [source, theme, height, spectrogram]);

  useEffect(() => {
    const marking = regions.current;
    if (marking === null || duration === 0) return;
    marking.clearRegions();
    for (const mark of marks ?? []) {
      marking.addRegion({
        start: mark.start_s,
        end: Math.min(mark.end_s, duration),
        color: `color-mix(in srgb, var(--${mark.token}) 20%, transparent)`,
        drag: false,
        resize: false,
      });
    }
  }, [marks, duration, theme]);

  const seek = (event: KeyboardEvent) => {
    const made = surfer.current;
    const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 };
    const step = steps[event.key];
    if (made === null) return;
    if (step !== undefined) made.setTime(Math.min(duration, Math.max(0, time + step)));
    else if (event.key === "Home") made.setTime(0);
    else if (event.key === "End") made.setTime(duration);
    else if (event.key === " " || event.key === "Enter") void made.playPause();
    else return;
    event.preventDefault();
  };

  return (
    <div class="waveform">
      <div
        ref={box}
        class="waveform-canvas"
        role="slider"
        tabIndex={0}
        aria-label={`Position in ${label}`}
        aria-valuemin={0}
        aria-valuemax={Math.round(duration * 10) / 10}
        aria-valuenow={Math.round(time * 10) / 10}
        aria-valuetext={`${clock(time, true)} of ${clock(duration, true)}`}
        onKeyDown={seek}
      />
      {failed && (
        <p class="hint" role="alert">
          {`It cannot be shown here: ${failed}`}
        </p>
      )}
      <div class="waveform-row">
        <button
          type="button"
          class="button round"
          disabled={duration === 0}
          aria-label={playing ? `Pause ${label}` : `Play ${label}`}
          onClick={() => void surfer.current?.playPause()}
        >
          <Icon name={playing ? "pause" : "play"} />
        </button>
        <span class="number muted">{`${clock(time, true)} / ${clock(duration, true)}`}</span>
        {children}
      </div>
    </div>
  );
}
