// Names for the documents of the API. `schema.d.ts` is generated from the service's own OpenAPI document
// (`make lint-page`), so a field that the service does not have fails the type check.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Gallery = Schemas["Gallery"];
export type NewGallery = Schemas["NewGallery"];
export type GalleryChange = Schemas["GalleryChange"];
export type Erased = Schemas["Erased"];

export type Turn = Schemas["Turn"];
export type VoiceQuality = Schemas["VoiceQuality"];
export type OperatingPoint = Schemas["OperatingPoint"];
export type Candidate = Schemas["Candidate"];
export type BestEnrollment = Schemas["BestEnrollment"];
export type VoiceIdentified = Schemas["VoiceIdentified"];
export type IdentifyAnswer = Schemas["IdentifyAnswer"];
export type VerifyAnswer = Schemas["VerifyAnswer"];
export type SearchAnswer = Schemas["SearchAnswer"];
export type RecordingFound = Schemas["RecordingFound"];

export type Speaker = Schemas["Speaker"];
export type SpeakerChange = Schemas["SpeakerChange"];
export type Enrollment = Schemas["Enrollment"];
export type NewEnrollment = Schemas["NewEnrollment"];

export type Recording = Schemas["Recording"];
export type RecordingDetail = Schemas["RecordingDetail"];
export type TakenRecording = Schemas["TakenRecording"];
export type Utterance = Schemas["Utterance"];

export type Job = Schemas["Job"];
export type JobItem = Schemas["JobItem"];
export type NewJob = Schemas["NewJob"];

export type UnknownVoice = Schemas["UnknownVoice"];
export type UnknownUtterance = Schemas["UnknownUtterance"];
export type Parted = Schemas["Parted"];

export type Encoder = Schemas["Encoder"];
export type Readiness = Schemas["Readiness"];
export type Stats = Schemas["Stats"];
export type Key = Schemas["Key"];
export type CreatedKey = Schemas["CreatedKey"];
export type KeyRequest = Schemas["KeyRequest"];

export type Session = Schemas["Session"];
export type Erasable = Schemas["Erasable"];
export type Inspection = Schemas["Inspection"];
export type RecordingVoices = Schemas["RecordingVoices"];
export type RecordingVoice = RecordingVoices["voices"][number];

export type Decision =
  | IdentifyAnswer["decision"]
  | VerifyAnswer["decision"]
  | SearchAnswer["decision"];

export interface Page<Item> {
  items: Item[];
  next_cursor: string | null;
}

/** An error as the service states it (RFC 9457). */
export interface ProblemDocument {
  code: string;
  title: string;
  status: number;
  detail: string;
  request_id?: string | null;
  errors?: { location: string; message: string }[] | null;
}

export interface Shares {
  edges: number[];
  same: number[];
  different: number[];
}

export interface Calibration {
  encoder_ids: string[];
  id: string;
  name: string;
  origin: string;
  description: string;
  speakers: number;
  recordings: number;
  fitted_at: string | null;
  cllr_before: number | null;
  cllr_after: number | null;
  min_cllr: number | null;
}

export interface GalleryQuality {
  speakers: number;
  recordings: number;
  sampled: boolean;
  same_pairs: number;
  different_pairs: number;
  scores: Shares;
  llrs: Shares | null;
  eer: number | null;
  det: { threshold: number; p_fa: number; p_miss: number }[];
  decides_by: "llr" | "score";
  curve: { threshold: number; fpir: number; fnir: number }[];
  point: { threshold: number; asked: string; fpir: number; fnir: number } | null;
  calibration: Calibration | null;
  warnings: string[];
}

export interface GalleryMap {
  method: string;
  speakers: number;
  points: {
    speaker: string;
    x: number;
    y: number;
    recordings: number;
    enrolled_s: number;
    nearest: string | null;
    score: number | null;
  }[];
}

export interface System {
  version: string;
  database: string;
  jobs_run: "here" | "workers";
  workers: { name: string; state: string }[];
  queues: Record<string, number>;
  device: string;
  encoders: { encoder_id: string; name: string; galleries: string[] }[];
  indexes: {
    gallery: string;
    encoder_id: string;
    kind: string;
    vectors: number;
    memory_bytes: number;
    mapped_bytes: number;
    changes_behind: number;
    lag_s: number;
    details: Record<string, unknown>;
  }[];
  media_bytes_free: number | null;
}
