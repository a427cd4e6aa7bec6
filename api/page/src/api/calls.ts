// Every route that the page uses, by what it is for.
import { formOf, get, path, send, type Query } from "./http";
import type {
  Calibration,
  CreatedKey,
  Encoder,
  Enrollment,
  Erasable,
  Erased,
  Gallery,
  GalleryChange,
  GalleryMap,
  GalleryQuality,
  IdentifyAnswer,
  Inspection,
  Job,
  JobItem,
  Key,
  KeyRequest,
  NewEnrollment,
  NewGallery,
  NewJob,
  Page,
  Parted,
  Readiness,
  Recording,
  RecordingDetail,
  RecordingVoices,
  SameVoices,
  SearchAnswer,
  Session,
  Speaker,
  SpeakerChange,
  Stats,
  System,
  TakenRecording,
  UnknownUtterance,
  UnknownVoice,
  VerifyAnswer,
} from "./types";

type Signal = AbortSignal | undefined;
type Cursor = { cursor?: string | null; limit?: number };

const inGallery = (gallery: string, ...rest: (string | number)[]) => ["galleries", gallery, ...rest];

export const session = {
  show: (signal?: Signal) => get<Session>(path(["session"]), signal),
  signIn: (key: string) => send<Session>("POST", path(["session"]), { json: { key } }),
  signOut: () => send<Session>("DELETE", path(["session"])),
};

export const galleries = {
  list: (signal?: Signal) => get<Page<Gallery>>(path(["galleries"], { limit: 1000 }), signal),
  make: (gallery: NewGallery) => send<Gallery>("POST", path(["galleries"]), { json: gallery, once: true }),
  change: (gallery: string, change: Partial<GalleryChange>) =>
    send<Gallery>("PATCH", path(inGallery(gallery)), { json: change }),
  erase: (gallery: string) => send<Erased>("DELETE", path(inGallery(gallery))),
  quality: (gallery: string, signal?: Signal) => get<GalleryQuality>(path(inGallery(gallery, "quality")), signal),
  map: (gallery: string, signal?: Signal) => get<GalleryMap>(path(inGallery(gallery, "map")), signal),
};

export const voices = {
  inspect: (file: File, points: number, signal?: Signal) =>
    send<Inspection>("POST", path(["inspect"], { points }), { form: formOf({ file }), ...(signal && { signal }) }),
  identify: (gallery: string, file: File, query: Query, signal?: Signal) =>
    send<IdentifyAnswer>("POST", path(inGallery(gallery, "identify"), query), {
      form: formOf({ file }),
      ...(signal && { signal }),
    }),
  verify: (gallery: string, speaker: string, file: File, query: Query, signal?: Signal) =>
    send<VerifyAnswer>("POST", path(inGallery(gallery, "verify"), { speaker_id: speaker, ...query }), {
      form: formOf({ file }),
      ...(signal && { signal }),
    }),
  search: (gallery: string, file: File, query: Query, signal?: Signal) =>
    send<SearchAnswer>("POST", path(inGallery(gallery, "search"), query), {
      form: formOf({ file }),
      ...(signal && { signal }),
    }),
};

export const speakers = {
  list: (gallery: string, query: Cursor & { q?: string; label?: string[] }, signal?: Signal) =>
    get<Page<Speaker>>(path(inGallery(gallery, "speakers"), query), signal),
  show: (gallery: string, speaker: string, signal?: Signal) =>
    get<Speaker>(path(inGallery(gallery, "speakers", speaker)), signal),
  change: (gallery: string, speaker: string, change: Partial<SpeakerChange>) =>
    send<Speaker>("PATCH", path(inGallery(gallery, "speakers", speaker)), { json: change }),
  merge: (gallery: string, speaker: string, into: string) =>
    send<Speaker>("POST", path(inGallery(gallery, "speakers", speaker, "merge")), { json: { into }, once: true }),
  erasure: (gallery: string, speaker: string, keep: boolean, signal?: Signal) =>
    get<Erasable>(path(inGallery(gallery, "speakers", speaker, "erasure"), { keep_recordings: keep }), signal),
  erase: (gallery: string, speaker: string, keep: boolean) =>
    send<Erased>("DELETE", path(inGallery(gallery, "speakers", speaker), { keep_recordings: keep })),
  enrollments: (gallery: string, speaker: string, query: Cursor, signal?: Signal) =>
    get<Page<Enrollment>>(path(inGallery(gallery, "speakers", speaker, "enrollments"), query), signal),
  enroll: (gallery: string, speaker: string, file: File, consent: string) =>
    send<NewEnrollment>(
      "POST",
      path(inGallery(gallery, "speakers", speaker, "enrollments"), { consent_reference: consent }),
      { form: formOf({ file }), once: true },
    ),
  takeBack: (gallery: string, speaker: string, enrollment: number, erase: boolean) =>
    send<Erased>("DELETE", path(inGallery(gallery, "speakers", speaker, "enrollments", enrollment), { erase })),
};

export const recordings = {
  list: (gallery: string, query: Cursor & { q?: string; state?: string }, signal?: Signal) =>
    get<Page<Recording>>(path(inGallery(gallery, "recordings"), query), signal),
  show: (gallery: string, id: number, signal?: Signal) =>
    get<RecordingDetail>(path(inGallery(gallery, "recordings", id)), signal),
  keep: (gallery: string, file: File) =>
    send<TakenRecording>("POST", path(inGallery(gallery, "recordings")), { form: formOf({ file }), once: true }),
  erase: (gallery: string, id: number) => send<Erased>("DELETE", path(inGallery(gallery, "recordings", id))),
  voices: (gallery: string, id: number, signal?: Signal) =>
    get<RecordingVoices>(path(inGallery(gallery, "recordings", id, "voices")), signal),
  audio: (gallery: string, id: number, query: Query) => path(inGallery(gallery, "recordings", id, "audio"), query),
};

export const jobs = {
  list: (gallery: string, query: Cursor & { state?: string }, signal?: Signal) =>
    get<Page<Job>>(path(["jobs"], { gallery, ...query }), signal),
  show: (id: number, signal?: Signal) => get<Job>(path(["jobs", id]), signal),
  start: (gallery: string, job: NewJob) =>
    send<Job>("POST", path(inGallery(gallery, "jobs")), { json: job, once: true }),
  items: (id: number, query: Cursor & { state?: string; noticed?: boolean }, signal?: Signal) =>
    get<Page<JobItem>>(path(["jobs", id, "items"], query), signal),
  sameVoices: (id: number, signal?: Signal) => get<SameVoices>(path(["jobs", id, "same-voices"]), signal),
  cancel: (id: number) => send<Job>("POST", path(["jobs", id, "cancel"])),
  /** Try the failed files of a job again, or one of them. */
  retry: (id: number, item?: number) =>
    send<{ requeued: number }>("POST", path(["jobs", id, "retry-failed"], { item }), { once: true }),
  events: (id: number) => path(["jobs", id, "events"]),
};

export const unknown = {
  cluster: (gallery: string) =>
    send<Job>("POST", path(inGallery(gallery, "unknown-voices", "cluster")), { json: {}, once: true }),
  list: (gallery: string, query: Cursor, signal?: Signal) =>
    get<Page<UnknownVoice>>(path(inGallery(gallery, "unknown-voices"), query), signal),
  show: (gallery: string, voice: string, signal?: Signal) =>
    get<UnknownVoice>(path(inGallery(gallery, "unknown-voices", voice)), signal),
  utterances: (gallery: string, voice: string, query: Cursor, signal?: Signal) =>
    get<Page<UnknownUtterance>>(path(inGallery(gallery, "unknown-voices", voice, "utterances"), query), signal),
  name: (gallery: string, voice: string, speaker: string, consent: string) =>
    send<Speaker>("POST", path(inGallery(gallery, "unknown-voices", voice, "promote")), {
      json: consent ? { speaker, consent_reference: consent } : { speaker },
      once: true,
    }),
  merge: (gallery: string, voice: string, into: string) =>
    send<UnknownVoice>("POST", path(inGallery(gallery, "unknown-voices", voice, "merge")), {
      json: { into },
      once: true,
    }),
  split: (gallery: string, voice: string, utteranceIds: number[] | null) =>
    send<Parted>("POST", path(inGallery(gallery, "unknown-voices", voice, "split")), {
      json: utteranceIds ? { utterance_ids: utteranceIds } : {},
      once: true,
    }),
  takeOut: (gallery: string, voice: string, utterance: number) =>
    send<UnknownVoice>("DELETE", path(inGallery(gallery, "unknown-voices", voice, "utterances", utterance))),
  forget: (gallery: string, voice: string) =>
    send<{ utterances: number }>("DELETE", path(inGallery(gallery, "unknown-voices", voice))),
};

export const service = {
  system: (signal?: Signal) => get<System>(path(["system"]), signal),
  stats: (signal?: Signal) => get<Stats>(path(["stats"]), signal),
  encoders: (signal?: Signal) => get<{ items: Encoder[] }>(path(["encoders"]), signal),
  calibrations: (signal?: Signal) => get<{ items: Calibration[] }>(path(["calibrations"]), signal),
  readiness: async (signal?: Signal): Promise<Readiness> => {
    // 503 is an answer here: the same document says what is at fault.
    const answer = await fetch("/readyz", { signal: signal ?? null });
    return answer.json() as Promise<Readiness>;
  },
};

export const keys = {
  list: (query: Cursor, signal?: Signal) => get<Page<Key>>(path(["keys"], query), signal),
  make: (key: KeyRequest) => send<CreatedKey>("POST", path(["keys"]), { json: key, once: true }),
  revoke: (publicId: string) => send<Key>("DELETE", path(["keys", publicId])),
};
