// Figures in words that people use.
import type { Decision } from "../api/types";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const MOST_TIMES = 1_000_000;
const EVEN_TIMES = 1.5;

export function count(number: number): string {
  return whole.format(number);
}

/** "1 recording", "12 recordings". */
export function counted(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A cosine as it is compared: two digits, a real minus. */
export function cosine(score: number | null | undefined): string {
  return score === null || score === undefined ? "–" : score.toFixed(2).replace("-", "−");
}

export function decimal(value: number | null | undefined, digits = 1): string {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
}

export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined) return "–";
  const hundredths = share * 100;
  if (hundredths === 0) return "0 %";
  if (hundredths < 0.01) return "< 0.01 %";
  if (hundredths > 99.99 && hundredths < 100) return "> 99.99 %";
  if (hundredths >= 99) return `${Number(hundredths.toFixed(2))} %`;
  return `${Number(hundredths.toPrecision(2))} %`;
}

/** Seconds as a clock shows them: 0:07.4, 3:05, 1:02:45. */
export function clock(seconds: number, tenths = false): string {
  const total = tenths ? Math.round(Math.max(0, seconds) * 10) / 10 : Math.round(Math.max(0, seconds));
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const rest = total % 60;
  const shown = tenths ? rest.toFixed(1).padStart(4, "0") : String(rest).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${shown}` : `${minutes}:${shown}`;
}

/** Seconds as people say them: 4.2 s, 3 min 20 s, 2 h 5 min. */
export function lasting(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 59.95) return `${Number(seconds.toFixed(1))} s`;
  const total = Math.round(seconds); // First, or 119.6 s were 1 min 60 s.
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return `${minutes} min ${total % 60} s`;
  return `${count(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}

export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = size < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(size) / 3));
  return `${Number((size / 1000 ** step).toPrecision(3))} ${units[step]}`;
}

export function onDay(text: string | null | undefined): string {
  return text ? day.format(new Date(text)) : "–";
}

export function at(text: string | null | undefined): string {
  return text ? moment.format(new Date(text)) : "–";
}

/** What an llr says, in the words of the command line. */
export function evidence(llr: number): string {
  const times = Math.exp(Math.min(Math.abs(llr), 50));
  if (times < EVEN_TIMES) return "as likely if it is the same person as if it is another";
  return `${timesLikelier(times)} times likelier if it is ${llr > 0 ? "the same" : "another"} person`;
}

function timesLikelier(times: number): string {
  if (times > MOST_TIMES) return `over ${whole.format(MOST_TIMES)}`;
  return times < 10 ? String(Number(times.toFixed(1))) : whole.format(Number(times.toPrecision(2)));
}

/** The last part of where a recording came from, as people know it. */
export function placeName(uri: string): string {
  const plain = uri.replace(/^upload:/, "").replace(/[?#].*$/, "");
  return plain.split(/[\\/]/).filter(Boolean).pop() ?? uri;
}

export type Tone = "good" | "maybe" | "none" | "bad" | "busy";

const DECISIONS: Record<Decision, { words: string; tone: Tone }> = {
  identified: { words: "Identified", tone: "good" },
  possible: { words: "Possible", tone: "maybe" },
  unknown: { words: "Unknown", tone: "none" },
  not_enough_speech: { words: "Not enough speech", tone: "maybe" },
  accept: { words: "Accepted", tone: "good" },
  reject: { words: "Rejected", tone: "bad" },
  found: { words: "Found", tone: "good" },
  not_found: { words: "Not found", tone: "none" },
};

export function decisionWords(decision: Decision): { words: string; tone: Tone } {
  return DECISIONS[decision];
}
