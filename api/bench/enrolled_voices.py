"""What naming speakers costs beyond finding vectors: a record full of enrolled voices, opened as a service opens it."""

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.bench.machine import PeakMemory, resident_bytes
from api.bench.own import ENCODER, SETTLE_S, settle
from api.bench.timing import medians_s, seconds_of
from api.bench.trial import K
from api.bench.vector_sets import BLOCK_ROWS, PER_SPEAKER, ClusteredVoices, blocks_of
from api.dependencies import Services
from api.enrolled import EnrolledGallery
from api.voices import BEST_ENROLLMENTS
from indexer.db.embeddings import stretches_of
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries, head_named
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.settings import Settings, load_settings
from indexer.types import EMBEDDING_DIM, GalleryId, SpeakerId, Vectors
from search.calibration import default_calibrations
from search.identification import ProbeQuality, Rules, ScoredSpeaker, identify, proposals
from search.operating_point import Wanted
from search.voiceprints import VoiceprintIndex

_GALLERY = "bench"
_ROWS_AT_ONCE = 5000
_PROBES = 200
_TURNS = 200
_WARMING = 20
_QUALITY = ProbeQuality(speech_s=10.0)


def enrolled(*, folder: str, count: int, seed: int, budget_s: float) -> dict[str, Any]:
    """Enroll `count` vectors, ten a speaker, and time identification beside a plain search of the same vectors."""
    voices = ClusteredVoices(seed)
    services = Services(load_settings(home=Path(folder) / "home", database={}))
    try:
        filled_s = seconds_of(partial(fill_record, services.database, voices, count))
        return {"vectors": count, "fill_s": filled_s, **_measured(services, voices, count, budget_s)}
    finally:
        services.close()


def fill_record(database: Database, voices: ClusteredVoices, count: int) -> None:
    """Enroll `count` vectors in a gallery of their own, ten a speaker."""
    with database.session_scope() as session:
        encoder = Encoders(session).register(
            NewEncoder(ENCODER, "bench", "speechbrain", "0" * 64, "bench", EMBEDDING_DIM)
        )
        gallery = GalleryId(Galleries(session).get_or_create(_GALLERY, encoder).id)
    first = 0
    for block in blocks_of(voices, count):
        for start in range(0, len(block), _ROWS_AT_ONCE):
            rows = block[start : start + _ROWS_AT_ONCE]
            with database.session_scope() as session:
                _enroll(Recordings(session), Speakers(session), gallery, first + start, rows)
        first += BLOCK_ROWS


def _enroll(recordings: Recordings, speakers: Speakers, gallery: GalleryId, first: int, rows: Vectors) -> None:
    """Add a recording for each speaker, with an utterance for each row."""
    names = [f"speaker {(first + start) // PER_SPEAKER}" for start in range(0, len(rows), PER_SPEAKER)]
    ids = speakers.get_or_create(gallery, names)
    recordings.add_many(
        gallery,
        ENCODER,
        [
            NewRecording(
                name,
                f"/{name}.wav",
                utterances=[
                    NewUtterance(None, 10.0 * n, 10.0 * n + 10.0, row, ids[name])
                    for n, row in enumerate(rows[place * PER_SPEAKER : (place + 1) * PER_SPEAKER])
                ],
            )
            for place, name in enumerate(names)
        ],
    )


def _measured(services: Services, voices: ClusteredVoices, count: int, budget_s: float) -> dict[str, Any]:
    database = services.database
    head = head_named(database, _GALLERY)
    with PeakMemory() as memory:
        began = time.perf_counter()
        index = services.indexes.open(_GALLERY)
        settle(index)
        built_s = time.perf_counter() - began
        before, began = resident_bytes() or 0, time.perf_counter()
        gallery = EnrolledGallery(database, head.id, head.encoder_id, index)
        prints = gallery.load()
        opened_s = time.perf_counter() - began
        _wait_for_codes(prints, services.settings)
        held = (resident_bytes() or 0) - before

    def read() -> GalleryHead:
        return head_named(database, _GALLERY)

    def named(probe: NDArray[np.float32]) -> object:
        view = gallery.as_of(read())
        return decided(view.nearest(probe, looked_at), view.count())

    def decided(found: Sequence[ScoredSpeaker], size: int) -> object:
        return identify(found, top_k=K, gallery_size=size, quality=_QUALITY, rules=rules)

    def shown(probe: NDArray[np.float32], speaker_ids: Sequence[SpeakerId]) -> object:
        best = gallery.best_enrollments(probe, speaker_ids, BEST_ENROLLMENTS)
        return stretches_of(database, [number for own in best.values() for number, _ in own])

    # Of whatever encoder: it is the work that counts here, and not what it says.
    calibration = next(found for found in default_calibrations() if len(found.encoder_ids) == 1)
    rules = Rules(calibration, [("request", Wanted(rate=0.01, possible_rate=0.1))], "bench")
    probes = {"known": voices.known(_PROBES, count), "strangers": voices.strangers(_PROBES)}
    view, looked_at = gallery.as_of(head), proposals(K)

    def timed(some: Vectors) -> dict[str, float]:
        turn = itertools.cycle(some)
        found = view.nearest(some[0], looked_at)
        ids = [speaker.speaker_id for speaker in found[:K]]
        # Apart: an index learns how long a list those who ask need, and nobody asks the same one for both.
        few: dict[str, Callable[[], object]] = {
            "search_s": lambda: index.search(next(turn)[None], K),
            "nearest_s": lambda: view.nearest(next(turn), K),
        }
        many: dict[str, Callable[[], object]] = {
            "wide_search_s": lambda: index.search(next(turn)[None], looked_at),
            "wide_nearest_s": lambda: view.nearest(next(turn), looked_at),
            "record_s": read,
            "decide_s": lambda: decided(found, view.count()),
            "identify_s": lambda: named(next(turn)),
            "shown_s": lambda: shown(next(turn), ids),
        }
        return _medians(few, budget_s) | _medians(many, budget_s)

    each = {kind: timed(some) for kind, some in probes.items()}
    times = {label: {kind: each[kind][label] for kind in probes} for label in each["known"]}
    gallery.close()
    index.close()
    return {
        "speakers": -(-count // PER_SPEAKER),
        "index_s": built_s,
        "voiceprints_s": opened_s,
        "voiceprints_bytes": held,
        "memory_peak_bytes": memory.peak_bytes,
        **times,
        "looked_at": looked_at,
        # What grouping by speaker costs, for as many speakers as vectors, and what a decision with its reading does.
        **{
            f"{what}_to_search": max(times[f"{what}_s"][kind] / times[f"{search}_s"][kind] for kind in probes)
            for what, search in (("nearest", "search"), ("wide_nearest", "wide_search"), ("identify", "wide_search"))
        },
    }


def _medians(calls: dict[str, Callable[[], object]], budget_s: float) -> dict[str, float]:
    medians_s(list(calls.values()), budget_s=0, least=_WARMING)
    return dict(zip(calls, medians_s(list(calls.values()), budget_s=budget_s, least=10, most=_TURNS), strict=True))


def _wait_for_codes(prints: VoiceprintIndex, settings: Settings) -> None:
    """Wait while a large index of voiceprints is still scanned flat, because its codes are being trained."""
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        info = prints.info()
        if info.count < settings.index.compress_above or info.kind != "faiss-flat":
            return
        time.sleep(0.1)
