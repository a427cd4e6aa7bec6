// How well a voice was heard, in one line.
import type { VoiceQuality } from "../api/types";
import { lasting, percent } from "../lib/words";

const NOISY_DB = 10;
const CLIPPED = 0.001;
const LITTLE_S = 3;

export function QualityLine({ quality }: { quality: VoiceQuality }) {
  const said: { words: string; poor: boolean }[] = [
    { words: `${lasting(quality.net_speech_s)} of speech`, poor: quality.net_speech_s < LITTLE_S },
  ];
  if (quality.snr_db !== null) {
    said.push({ words: `${Math.round(quality.snr_db)} dB above noise`, poor: quality.snr_db < NOISY_DB });
  }
  if (quality.telephone) said.push({ words: "telephone", poor: false });
  if (quality.clipped_share > CLIPPED) said.push({ words: `${percent(quality.clipped_share)} clipped`, poor: true });
  return (
    <ul class="quality-line number" aria-label="Quality">
      {said.map((one) => (
        <li key={one.words} class={one.poor ? "tone-text-maybe" : ""}>
          {one.words}
        </li>
      ))}
    </ul>
  );
}
