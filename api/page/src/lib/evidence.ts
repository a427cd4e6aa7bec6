// The line that candidates are drawn on: evidence where it decides, the score where there is no calibration.
import type { OperatingPoint } from "../api/types";

export interface Scale {
  by: "llr" | "score";
  from: number;
  until: number;
  threshold: number | null;
  possible: number | null;
}

const LEAST_LLR = { from: -8, until: 12 };
const SCORES = { from: -0.1, until: 1 };

export interface Measured {
  llr: number | null;
  score: number | null;
}

/** One scale for all candidates of a voice, wide enough for each and for the thresholds. */
export function scaleOf(point: OperatingPoint, measured: readonly Measured[]): Scale {
  if (point.decides_by === "score" || point.llr_threshold === null) {
    return {
      by: "score",
      ...SCORES,
      threshold: point.score_threshold,
      possible: point.possible_score_threshold,
    };
  }
  const values = measured.map((one) => one.llr).filter((llr): llr is number => llr !== null);
  const all = [...values, point.llr_threshold, ...(point.possible_llr_threshold === null ? [] : [point.possible_llr_threshold])];
  return {
    by: "llr",
    from: Math.max(-20, Math.min(LEAST_LLR.from, ...all)),
    until: Math.min(30, Math.max(LEAST_LLR.until, ...all.map((llr) => llr + 1))),
    threshold: point.llr_threshold,
    possible: point.possible_llr_threshold,
  };
}

/** What a candidate has on a scale. */
export function valueOn(scale: Scale, measured: Measured): number | null {
  return scale.by === "llr" ? measured.llr : measured.score;
}

/** Where a value is on a scale, from 0 to 1. */
export function placeOn(scale: Scale, value: number): number {
  return Math.min(1, Math.max(0, (value - scale.from) / (scale.until - scale.from)));
}

export type Band = "good" | "maybe" | "none";

export function bandOn(scale: Scale, value: number | null): Band {
  if (value === null || scale.threshold === null) return "none";
  if (value >= scale.threshold) return "good";
  return scale.possible !== null && value >= scale.possible ? "maybe" : "none";
}
