// Names for the documents of the API. `schema.d.ts` is generated from the service's own OpenAPI document
// (`make lint`), so a field that the service does not have fails the type check.
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

export type Job = Schemas["Job"];
export type JobItem = Schemas["JobItem"];
export type NewJob = Schemas["NewJob"];
export type SameVoices = Schemas["SameVoices"];

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
export type Calibration = Schemas["CalibrationView"];
export type GalleryQuality = Schemas["GalleryQualityView"];
export type GalleryMap = Schemas["GalleryMapView"];
export type System = Schemas["System"];
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
