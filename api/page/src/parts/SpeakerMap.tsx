// Everybody on a plane, near to whom they sound like; each leads to their page.
import { useRef, useState } from "preact/hooks";

import { galleries } from "../api/calls";
import type { GalleryMap } from "../api/types";
import { useLoad, useWidth } from "../lib/hooks";
import { to } from "../lib/router";
import { cosine, count, counted } from "../lib/words";
import { Failure, Loading } from "./Basics";
import { useGallery } from "./Gallery";

type Point = GalleryMap["points"][number];

const EDGE = 44;
const LEAST_HEIGHT = 340;
/** Pixels on either side of a point within which most names find room. */
const NAME_HALF = 76;
/** Square pixels that a point needs for its name not to lie over others. */
const NAME_ROOM = 6000;
/** Points that are stops of the Tab key; everybody is in the list of speakers too. */
const MOST_STOPS = 150;

export function SpeakerMap() {
  const gallery = useGallery();
  const { data, error, loading, reload } = useLoad((signal) => galleries.map(gallery.name, signal), [gallery.name]);
  return (
    <section class="card" aria-label="Map">
      <div class="card-head">
        <h2>Map of the voices</h2>
        {data && <span class="hint">{`${counted(data.points.length, "speaker")}${data.points.length < data.speakers ? ` of ${count(data.speakers)}` : ""}, ${data.method}`}</span>}
      </div>
      <Failure error={error} retry={reload} />
      {loading && data === null && <Loading what="Drawing the map" />}
      {data && <Plane map={data} />}
      <p class="hint">Near each other: voices that sound alike. Two points for one person, or a point far from its kind, are worth a listen.</p>
    </section>
  );
}

function Plane({ map }: { map: GalleryMap }) {
  const [over, setOver] = useState<Point | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const height = Math.max(LEAST_HEIGHT, width * 0.52);
  const names = map.points.length * NAME_ROOM <= width * height;
  const x = (point: Point) => EDGE + ((point.x + 1) / 2) * (width - 2 * EDGE);
  const y = (point: Point) => EDGE + ((1 - point.y) / 2) * (height - 1.5 * EDGE);
  const neighbor = over && map.points.find((one) => one.speaker === over.nearest);
  return (
    <div ref={box}>
      <svg class="map" width={width} height={height} role="group" aria-label="Map of the voices">
        {over && neighbor && <line class="map-tie" x1={x(over)} y1={y(over)} x2={x(neighbor)} y2={y(neighbor)} />}
        {map.points.map((point) => (
          <a
            key={point.speaker}
            href={to("speakers", [point.speaker])}
            aria-label={said(point)}
            tabIndex={map.points.length <= MOST_STOPS ? 0 : -1}
            onMouseEnter={() => setOver(point)}
            onMouseLeave={() => setOver(null)}
            onFocus={() => setOver(point)}
            onBlur={() => setOver(null)}
          >
            <circle class="map-halo" cx={x(point)} cy={y(point)} r={18} />
            <circle class="map-point" cx={x(point)} cy={y(point)} r={Math.min(10, 4 + Math.sqrt(point.recordings))} />
            {(names || over === point) && (
              <text class="map-name" x={x(point)} y={y(point) - 13} text-anchor={anchorOf(x(point), width)}>
                {point.speaker}
              </text>
            )}
          </a>
        ))}
      </svg>
      <p class="map-said hint number" aria-hidden="true">
        {over ? said(over) : " "}
      </p>
    </div>
  );
}

/** Names begin or end at their point where there is no room for them around it. */
function anchorOf(x: number, width: number): "start" | "middle" | "end" {
  if (x < NAME_HALF) return "start";
  return x > width - NAME_HALF ? "end" : "middle";
}

function said(point: Point): string {
  const likest = point.nearest ? `, most like ${point.nearest} (score ${cosine(point.score)})` : "";
  return `${point.speaker}: ${counted(point.recordings, "recording")}${likest}`;
}
