// Where the gallery decides, moved by a slider, with the errors that are to be expected there.
import { useMemo, useState } from "preact/hooks";

import { galleries } from "../api/calls";
import type { GalleryQuality } from "../api/types";
import { useDo } from "../lib/hooks";
import { cosine, decimal, percent } from "../lib/words";
import { Failure } from "./Basics";
import { Chart, type Line } from "./Chart";
import { useGalleries, useGallery } from "./Gallery";
import { useSession } from "./Session";

interface About {
  quality: GalleryQuality;
  onChanged: () => void;
}

export function OperatingPointCard({ quality, onChanged }: About) {
  const gallery = useGallery();
  const { reload: recount } = useGalleries();
  const session = useSession();
  const { curve, point } = quality;
  const [chosen, setChosen] = useState<number | null>(null);
  const place = chosen ?? nearest(quality);
  // As it decides now, thresholds follow each recording: that was measured, and is not a point of the curve.
  const here = chosen === null && point ? point : curve[place];
  // Without a second recording of anybody no own voice was looked for, and none missed says nothing.
  const missesKnown = quality.same_pairs > 0;
  const lines = useMemo<Line[]>(
    () => [
      { name: "strangers who are named", token: "voice-1", values: curve.map((one) => one.fpir) },
      ...(missesKnown
        ? [{ name: "own people who are missed", token: "voice-0", values: curve.map((one) => one.fnir) }]
        : []),
    ],
    [curve, missesKnown],
  );
  const x = useMemo(() => curve.map((one) => one.threshold), [curve]);
  const saving = useDo(async () => {
    if (here === undefined) return;
    const byScore = quality.decides_by === "score";
    await galleries.change(
      gallery.name,
      byScore ? { identification_threshold: here.threshold } : { target_fpir: asked(here.fpir) },
    );
    setChosen(null);
    recount();
    onChanged();
  });
  if (here === undefined) return null;
  const verb = chosen === null ? "are" : "would be";
  const unit = quality.decides_by === "llr" ? decimal(here.threshold) : cosine(here.threshold);
  return (
    <section class="card" aria-label="Operating point">
      <div class="card-head">
        <h2>Operating point</h2>
        {point && <span class="hint">{`now: ${point.asked}`}</span>}
      </div>
      <div class="columns even">
        <Chart
          label={`${missesKnown ? "Both kinds of errors" : "False alarms"} of identification, for every threshold`}
          x={x}
          lines={lines}
          xName={quality.decides_by === "llr" ? "threshold (llr)" : "threshold (score)"}
          yName="share"
          yText={(value) => percent(value)}
          yRange={[0, 1]}
          mark={here.threshold}
          height={220}
        />
        <div class="stack">
          <label class="field">
            <span class="field-name">{`Threshold: ${unit}`}</span>
            <input
              type="range"
              min={0}
              max={curve.length - 1}
              step={1}
              value={place}
              aria-valuetext={`threshold ${unit}: ${percent(here.fpir)} of strangers named, ${missesKnown ? percent(here.fnir) : "an unknown share"} of own people missed`}
              onInput={(event) => setChosen(Number(event.currentTarget.value))}
            />
          </label>
          <div class="expected" role="status">
            <p>
              <strong class="number">{percent(here.fpir)}</strong>
              {` of strangers ${verb} named: ${ofHundred(here.fpir)}.`}
            </p>
            {missesKnown ? (
              <p>
                <strong class="number">{percent(here.fnir)}</strong>
                {` of recordings of enrolled people ${chosen === null ? "go" : "would go"} unnamed: ${ofHundred(here.fnir)}.`}
              </p>
            ) : (
              <p>How many recordings of enrolled people go unnamed cannot be told: nobody is enrolled with two.</p>
            )}
          </div>
          <p class="hint">
            {chosen === null && point
              ? "As the gallery decides now, measured with its enrolled recordings."
              : "With one threshold for all, measured with the enrolled recordings; thresholds that follow each recording do a little better."}
          </p>
          <Failure error={saving.error} />
          {chosen !== null && (
            <div class="row">
              {session.may("admin") && (
                <button type="button" class="button primary" disabled={saving.busy} onClick={() => void saving.run()}>
                  {quality.decides_by === "llr" ? `Ask for at most ${percent(asked(here.fpir))}` : `Decide at ${unit}`}
                </button>
              )}
              <button type="button" class="button" onClick={() => setChosen(null)}>
                Back to where it is
              </button>
            </div>
          )}
        </div>
      </div>
    </section>
  );
}

/** Lowest rate that can be asked for by the slider: below, no gallery has the trials to tell. */
const LEAST_FPIR = 0.0001;
const MOST_FPIR = 0.99;

function asked(share: number): number {
  return Math.min(MOST_FPIR, Math.max(LEAST_FPIR, Number(share.toPrecision(2))));
}

function nearest(quality: GalleryQuality): number {
  const wanted = quality.point?.threshold;
  if (wanted === undefined) return Math.floor(quality.curve.length / 2);
  const distances = quality.curve.map((one) => Math.abs(one.threshold - wanted));
  return distances.indexOf(Math.min(...distances));
}

function ofHundred(share: number): string {
  if (share === 0) return "none that was tried";
  if (share >= 0.095) return `${Math.round(share * 10)} of 10`;
  if (share >= 0.0095) return `${Math.round(share * 100)} of 100`;
  return `${Math.max(1, Math.round(share * 1000))} of 1,000`;
}
