// The microphone, as it sounds: nothing that makes calls pleasanter and voices less like themselves.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

const ASKED: MediaStreamConstraints = {
  audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
};
const KINDS = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
const BITS_PER_SECOND = 128_000;
const LONGEST_S = 600;
const STEP_MS = 100;

export interface Microphone {
  /** Why it cannot be used; null where it can. */
  problem: string | null;
  recording: boolean;
  seconds: number;
  /** How loud it is now, from 0 to 1. */
  level: number;
  start: () => Promise<void>;
  stop: () => void;
}

export function useMicrophone(done: (file: File) => void): Microphone {
  const [problem, setProblem] = useState<string | null>(null);
  const [recording, setRecording] = useState(false);
  const [seconds, setSeconds] = useState(0);
  const [level, setLevel] = useState(0);
  const recorder = useRef<MediaRecorder | null>(null);
  const latest = useRef(done);
  latest.current = done;

  const stop = useCallback(() => {
    if (recorder.current?.state === "recording") recorder.current.stop();
  }, []);

  const start = useCallback(async () => {
    setProblem(null);
    try {
      const stream = await opened();
      const meter = metered(stream);
      const kind = KINDS.find((one) => MediaRecorder.isTypeSupported(one));
      const made = new MediaRecorder(stream, { ...(kind && { mimeType: kind }), audioBitsPerSecond: BITS_PER_SECOND });
      const parts: Blob[] = [];
      const began = performance.now();
      const timer = setInterval(() => {
        const passed = (performance.now() - began) / 1000;
        setSeconds(passed);
        setLevel(meter.level());
        if (passed >= LONGEST_S) stop();
      }, STEP_MS);
      made.addEventListener("dataavailable", (event) => parts.push(event.data));
      made.addEventListener("stop", () => {
        clearInterval(timer);
        meter.close();
        for (const track of stream.getTracks()) track.stop();
        recorder.current = null;
        setRecording(false);
        setLevel(0);
        if (parts.some((part) => part.size > 0)) latest.current(named(parts, made.mimeType));
      });
      recorder.current = made;
      made.start();
      setSeconds(0);
      setRecording(true);
    } catch (error) {
      setProblem(inWords(error));
    }
  }, [stop]);

  useEffect(() => stop, [stop]);
  return { problem, recording, seconds, level, start, stop };
}

async function opened(): Promise<MediaStream> {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error("The browser gives the microphone only to pages of this machine or over https.");
  }
  return navigator.mediaDevices.getUserMedia(ASKED);
}

function metered(stream: MediaStream): { level: () => number; close: () => void } {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  return {
    level: () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // -60 dB below full scale is silence, -10 dB is loud.
      return Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50));
    },
    close: () => void context.close(),
  };
}

function named(parts: Blob[], kind: string): File {
  const bare = kind.split(";")[0] ?? "audio/webm";
  const time = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
  return new File(parts, `microphone-${time}.${bare.split("/")[1] ?? "webm"}`, { type: bare });
}

function inWords(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") return "The microphone was not allowed. Allow it in the browser's address bar, and try again.";
  if (name === "NotFoundError") return "No microphone was found. Connect one, and try again.";
  if (name === "NotReadableError") return "Another program has the microphone. Close it, and try again.";
  return error instanceof Error ? error.message : String(error);
}
