// How far somebody is above or below the threshold.
import { bandOn, placeOn, valueOn, type Measured, type Scale } from "../lib/evidence";

const toShare = (place: number) => `${(place * 100).toFixed(2)}%`;

/** Bar of one candidate; the numbers beside it say the same, so it is hidden from assistive technology. */
export function ScoreBar({ scale, measured }: { scale: Scale; measured: Measured }) {
  const value = valueOn(scale, measured);
  return (
    <div class="score-bar" aria-hidden="true">
      {value !== null && (
        <div
          class={`score-fill band-${bandOn(scale, value)}`}
          style={{ width: toShare(placeOn(scale, value)) }}
        />
      )}
      {scale.possible !== null && <div class="score-edge possible" style={{ left: toShare(placeOn(scale, scale.possible)) }} />}
      {scale.threshold !== null && <div class="score-edge" style={{ left: toShare(placeOn(scale, scale.threshold)) }} />}
    </div>
  );
}

/** What the lines through the bars mean. */
export function ScoreLegend({ scale }: { scale: Scale }) {
  const unit = scale.by === "llr" ? "evidence (llr)" : "score";
  const shown = (value: number) => value.toFixed(scale.by === "llr" ? 1 : 2).replace("-", "−");
  return (
    <p class="legend hint number">
      {scale.threshold !== null && (
        <span>
          <span class="key-line" aria-hidden="true" />
          {`identified from ${unit} ${shown(scale.threshold)}`}
        </span>
      )}
      {scale.possible !== null && (
        <span>
          <span class="key-line possible" aria-hidden="true" />
          {`possible from ${shown(scale.possible)}`}
        </span>
      )}
    </p>
  );
}
