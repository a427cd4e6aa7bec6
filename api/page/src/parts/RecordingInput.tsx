// Where a recording is given: dropped, chosen, or spoken.
import { useEffect, useRef, useState } from "preact/hooks";

import { useMicrophone } from "../lib/microphone";
import { bytes, clock } from "../lib/words";
import { Icon } from "./Icon";

interface Asked {
  file: File | null;
  onFile: (file: File) => void;
  disabled?: boolean;
  /** Whether several files may be given at once; each is handed over. */
  several?: boolean;
}

export function RecordingInput({ file, onFile, disabled = false, several = false }: Asked) {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const microphone = useMicrophone(onFile);

  const take = (files: FileList | null | undefined) => {
    const given = Array.from(files ?? []);
    for (const one of several ? given : given.slice(0, 1)) onFile(one);
  };
  useStayOnDrop();

  return (
    <div
      class={`drop ${over ? "over" : ""} ${file ? "filled" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (!disabled) take(event.dataTransfer?.files);
      }}
    >
      {microphone.recording ? (
        <Recording seconds={microphone.seconds} level={microphone.level} onStop={microphone.stop} />
      ) : (
        <>
          <div class="drop-words">
            {file ? (
              <>
                <strong class="ellipsis">{file.name}</strong>
                <span class="hint number">{bytes(file.size)}</span>
              </>
            ) : (
              <>
                <strong>{several ? "Drop recordings here" : "Drop a recording here"}</strong>
                <span class="hint">WAV, FLAC, MP3, M4A, Ogg, video: anything with sound</span>
              </>
            )}
          </div>
          <div class="row">
            <label class={`button ${file ? "" : "primary"}`}>
              <Icon name="upload" />
              {file ? "Another file" : several ? "Choose files" : "Choose a file"}
              <input
                ref={input}
                class="out-of-sight"
                type="file"
                accept="audio/*,video/*,.sph,.nist,.flac,.opus,.amr,.gsm,.caf"
                aria-label="Recording"
                multiple={several}
                disabled={disabled}
                onChange={() => {
                  take(input.current?.files);
                  if (input.current) input.current.value = ""; // So that the same file can be given again.
                }}
              />
            </label>
            <button type="button" class="button" disabled={disabled} onClick={() => void microphone.start()}>
              <Icon name="mic" />
              Record
            </button>
          </div>
        </>
      )}
      {microphone.problem && (
        <p class="tone-text-bad" role="alert">
          {microphone.problem}
        </p>
      )}
    </div>
  );
}

function Recording({ seconds, level, onStop }: { seconds: number; level: number; onStop: () => void }) {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => button.current?.focus(), []);
  return (
    <div class="recording">
      <span class="recording-dot" aria-hidden="true" />
      <span class="number large" role="timer" aria-label="Recorded">
        {clock(seconds, true)}
      </span>
      <div class="level" aria-hidden="true">
        <div style={{ transform: `scaleX(${level.toFixed(3)})` }} />
      </div>
      <button type="button" class="button danger" ref={button} onClick={onStop}>
        <Icon name="stop" />
        Stop recording
      </button>
      <span class="hint">Speak for ten seconds or more, as you usually speak.</span>
    </div>
  );
}

/** A file that misses the drop zone must not make the browser leave the page. */
function useStayOnDrop(): void {
  useEffect(() => {
    const stay = (event: DragEvent) => event.preventDefault();
    window.addEventListener("dragover", stay);
    window.addEventListener("drop", stay);
    return () => {
      window.removeEventListener("dragover", stay);
      window.removeEventListener("drop", stay);
    };
  }, []);
}
