// Colors of a spectrogram: from the background of the theme over its accent to its ink.
import { color } from "./theme";

const STEPS = 256;

/** The map that wavesurfer takes: 256 times red, green, blue and alpha from 0 to 1. */
export function spectrum(): number[][] {
  const stops = ["sunken", "accent-soft", "accent", "text"].map((token) => rgb(color(token)));
  return Array.from({ length: STEPS }, (_, step) => between(stops, step / (STEPS - 1)));
}

function between(stops: number[][], share: number): number[] {
  const place = share * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  const rest = place - first;
  const [from, until] = [stops[first] ?? [], stops[first + 1] ?? []];
  return [...from.map((value, channel) => value + ((until[channel] ?? value) - value) * rest), 1];
}

function rgb(hex: string): number[] {
  return [1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16) / 255);
}
