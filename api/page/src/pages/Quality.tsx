// How well the voices of a gallery can be told apart, and where it decides.
import { useMemo, useState } from "preact/hooks";

import { galleries } from "../api/calls";
import type { GalleryQuality } from "../api/types";
import { useLoad, useTitle } from "../lib/hooks";
import { DET_RATES, LEAST_RATE, probit } from "../lib/probit";
import { to } from "../lib/router";
import { count, counted, decimal, percent } from "../lib/words";
import { Empty, Failure, Figure, Loading, Warnings } from "../parts/Basics";
import { CalibrationCard } from "../parts/CalibrationCard";
import { Chart, type Line } from "../parts/Chart";
import { useGallery } from "../parts/Gallery";
import { OperatingPointCard } from "../parts/OperatingPointCard";
import { PageHead } from "../parts/PageHead";
import { NotWithThisKey, useSession } from "../parts/Session";
import { SpeakerMap } from "../parts/SpeakerMap";

const FEWEST = 2;

export function Quality() {
  useTitle("Quality");
  const gallery = useGallery();
  const session = useSession();
  const { data, error, loading, reload } = useLoad((signal) => galleries.quality(gallery.name, signal), [gallery.name]);
  return (
    <>
      <PageHead title="Quality" lead={`How well the voices of ${gallery.name} can be told apart`} />
      <Failure error={error} retry={reload} />
      {loading && <Loading what={data ? "Measuring anew" : "Comparing enrolled voices with each other"} />}
      {data && data.speakers < FEWEST && (
        <Empty icon="quality" title="Too few speakers to tell">
          <p>Enroll two people or more, each with two recordings or more: their voices are then compared with each other.</p>
          {session.may("write") ? (
            <a class="button primary" href={to("speakers", [], { enroll: "yes" })}>
              Enroll a speaker
            </a>
          ) : (
            <NotWithThisKey />
          )}
        </Empty>
      )}
      {data && data.speakers >= FEWEST && <Shown quality={data} onChanged={reload} />}
    </>
  );
}

function Shown({ quality, onChanged }: { quality: GalleryQuality; onChanged: () => void }) {
  return (
    <div class="stack">
      <section class="card" aria-label="In short">
        <dl class="figures">
          <Figure name="Equal error rate" hint="as many misses as false alarms">
            {percent(quality.eer)}
          </Figure>
          <Figure name="Speakers">{count(quality.speakers)}</Figure>
          <Figure name="Recordings compared" hint={quality.sampled ? "a sample" : undefined}>
            {count(quality.recordings)}
          </Figure>
          <Figure name="Pairs of one speaker">{count(quality.same_pairs)}</Figure>
          <Figure name="Pairs of two">{count(quality.different_pairs)}</Figure>
        </dl>
        <Warnings items={quality.warnings} />
      </section>
      <OperatingPointCard quality={quality} onChanged={onChanged} />
      <div class="columns">
        <Distributions quality={quality} />
        <Det quality={quality} />
      </div>
      <CalibrationCard quality={quality} onChanged={onChanged} />
      <SpeakerMap />
    </div>
  );
}

function Distributions({ quality }: { quality: GalleryQuality }) {
  const [by, setBy] = useState<"score" | "llr">(quality.llrs ? quality.decides_by : "score");
  const shares = by === "llr" && quality.llrs ? quality.llrs : quality.scores;
  const lines = useMemo<Line[]>(
    () => [
      { name: `different speakers (${counted(quality.different_pairs, "pair")})`, token: "voice-1", values: [...shares.different, 0], fill: true, stepped: true },
      { name: `same speaker (${counted(quality.same_pairs, "pair")})`, token: "voice-0", values: [...shares.same, 0], fill: true, stepped: true },
    ],
    [shares],
  );
  const mark = quality.point && quality.decides_by === by ? quality.point.threshold : null;
  return (
    <section class="card" aria-label="Distributions">
      <div class="card-head">
        <h2>Scores</h2>
        {quality.llrs && (
          <label class="field inline end">
            <span class="out-of-sight">Scale</span>
            <select value={by} onChange={(event) => setBy(event.currentTarget.value as "score" | "llr")}>
              <option value="score">cosine score</option>
              <option value="llr">evidence (llr)</option>
            </select>
          </label>
        )}
      </div>
      <Chart
        key={by}
        label={`How ${by === "llr" ? "evidence" : "scores"} of pairs of the same and of different speakers are spread`}
        x={shares.edges}
        lines={lines}
        xName={by === "llr" ? "evidence (llr)" : "score"}
        yName="share of pairs"
        yText={(value) => percent(value)}
        mark={mark}
      />
      <p class="hint">The less the two overlap, the better voices are told apart.{mark !== null && " The line is where the gallery decides."}</p>
    </section>
  );
}

function Det({ quality }: { quality: GalleryQuality }) {
  const { x, lines } = useMemo(() => {
    const seen = quality.det
      .map((one) => ({ x: probit(one.p_fa), y: probit(one.p_miss) }))
      .sort((a, b) => a.x - b.x || b.y - a.y);
    return {
      x: seen.map((one) => one.x),
      lines: [{ name: "this gallery", token: "accent", values: seen.map((one) => one.y) }] as Line[],
    };
  }, [quality.det]);
  const ticks = DET_RATES.map(probit);
  const text = (value: number) => percent(DET_RATES.find((rate) => Math.abs(probit(rate) - value) < 1e-9) ?? null);
  const range: [number, number] = [probit(LEAST_RATE), probit(0.5)];
  const eer = quality.eer === null ? null : probit(quality.eer);
  if (quality.det.length === 0) {
    return (
      <section class="card" aria-label="Errors">
        <div class="card-head">
          <h2>Errors of both kinds (DET)</h2>
        </div>
        <p class="muted">Enroll somebody with a second recording: misses are weighed against false alarms then.</p>
      </section>
    );
  }
  return (
    <section class="card" aria-label="Errors">
      <div class="card-head">
        <h2>Errors of both kinds (DET)</h2>
      </div>
      <Chart
        label={`Misses against false alarms; they are equal at ${percent(quality.eer)}`}
        x={x}
        lines={lines}
        xName="strangers accepted"
        yName="own people missed"
        xTicks={ticks}
        yTicks={ticks}
        xText={text}
        yText={text}
        xRange={range}
        yRange={range}
        point={eer === null ? null : [eer, eer]}
      />
      <p class="hint">{`Nearer to the lower left is better. The point is the equal error rate${quality.eer === null ? "" : `, ${decimal(quality.eer * 100, 2)} %`}.`}</p>
    </section>
  );
}
