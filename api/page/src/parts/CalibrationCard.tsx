// What turns scores into evidence, and how well it does.
import { useState } from "preact/hooks";

import { galleries, service } from "../api/calls";
import type { Calibration, GalleryQuality } from "../api/types";
import { useDo, useLoad } from "../lib/hooks";
import { count, decimal, onDay } from "../lib/words";
import { Badge, Failure, Field, Figure } from "./Basics";
import { useGallery } from "./Gallery";
import { useSession } from "./Session";

export function CalibrationCard({ quality, onChanged }: { quality: GalleryQuality; onChanged: () => void }) {
  const session = useSession();
  const used = quality.calibration;
  return (
    <section class="card" aria-label="Calibration">
      <div class="card-head">
        <h2>Calibration</h2>
        {used ? <Badge tone="good">{used.name}</Badge> : <Badge tone="maybe">none</Badge>}
      </div>
      {used ? (
        <>
          <p class="muted">{used.description}</p>
          <dl class="figures">
            <Figure name="Fitted to" hint={`${count(used.recordings)} recordings`}>{`${count(used.speakers)} speakers`}</Figure>
            <Figure name="Cost before" hint="Cllr, in bits">
              {decimal(used.cllr_before, 3)}
            </Figure>
            <Figure name="Cost with it" hint="Cllr, in bits">
              {decimal(used.cllr_after, 3)}
            </Figure>
            <Figure name="Best possible" hint="minimum Cllr">
              {decimal(used.min_cllr, 3)}
            </Figure>
            <Figure name="Fitted">{onDay(used.fitted_at)}</Figure>
          </dl>
        </>
      ) : (
        <p class="muted">
          Without one, decisions are made by the cosine score alone and no evidence is stated. Make one from recordings of
          known speakers with voxdex calibrate.
        </p>
      )}
      {session.may("admin") && <Choose used={used} onChanged={onChanged} />}
    </section>
  );
}

function Choose({ used, onChanged }: { used: Calibration | null; onChanged: () => void }) {
  const gallery = useGallery();
  const { data } = useLoad((signal) => service.calibrations(signal), []);
  const [wanted, setWanted] = useState(used?.id ?? "");
  const changing = useDo(async () => {
    await galleries.change(gallery.name, { calibration_id: wanted || null });
    onChanged();
  });
  const encoders = [gallery.encoder_id, gallery.second_encoder_id].filter(Boolean);
  const fitting = (data?.items ?? []).filter(
    (one) => one.encoder_ids.length === encoders.length && encoders.every((id) => one.encoder_ids.includes(id ?? "")),
  );
  if (fitting.length < 2) return null;
  return (
    <div class="row filter">
      <Field name="Use another one">
        <select value={wanted} onChange={(event) => setWanted(event.currentTarget.value)}>
          {fitting.map((one) => (
            <option key={one.id} value={one.id}>
              {`${one.name} (${count(one.speakers)} speakers)`}
            </option>
          ))}
        </select>
      </Field>
      <button type="button" class="button" disabled={changing.busy || wanted === (used?.id ?? "")} onClick={() => void changing.run()}>
        Use it
      </button>
      <Failure error={changing.error} />
    </div>
  );
}
