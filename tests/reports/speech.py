"""What the default encoder and the whole chain do on labeled speech: `python -m tests.reports.speech FOLDER`.

FOLDER holds a manifest.csv (path, speaker, set, ...). Prints, from one run: the throughput of ingesting everything;
closed- and open-set identification with three enrolled recordings a speaker among the distractors; verification
errors by set and by threshold. The figures in docs/decisions/0009-default-thresholds.md come from here.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.dependencies import Services
from indexer.archive import ArchiveFile, list_archive, parse_speaker_rule
from indexer.db.embeddings import Embeddings
from indexer.db.galleries import Galleries
from indexer.errors import InvalidAudio
from indexer.settings import load_settings
from indexer.types import GalleryId

ENROLLED_SET = "librispeech_testother"
DISTRACTOR_SET = "librispeech_251"
ENROLLMENTS = 3
THRESHOLDS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55)
# One-second words are a condition of their own: no fixed threshold serves both them and ordinary utterances.
SHORT_SETS = {"speech_commands"}

Scores = NDArray[np.float32]


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


def ingest_everything(services: Services, folder: Path) -> None:
    """Ingest the whole folder with the manifest's speakers, in one go."""
    rule = parse_speaker_rule(f"csv:{folder / 'manifest.csv'}")
    listing = list_archive([folder], rule)
    report = services.ingest("archive", None).run(listing.files, source=str(folder))
    tally = report.tally
    say(
        f"ingest: {tally.found} files, {tally.ingested} ingested, {tally.failed} refused, "
        f"{tally.audio_s / 60:.1f} min of audio in {tally.elapsed_s:.0f} s: "
        f"{tally.files_per_s:.1f} files/s, {tally.times_real_time:.1f} times real time"
    )
    for failure in report.failures:
        say(f"  refused: {failure.code}: {Path(failure.path).relative_to(folder.resolve())}")


def identify_everyone(services: Services, folder: Path, rows: Sequence[dict[str, str]]) -> None:
    """Enroll one set with three recordings each among the distractors; probe with everything else."""
    enroll: list[ArchiveFile] = []
    known_probes: list[tuple[Path, str]] = []
    unknown_probes: list[tuple[Path, str]] = []
    counts: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: row["path"]):
        path, speaker = (folder / row["path"]).resolve(), row["speaker"]
        counts[speaker] = counts.get(speaker, 0) + 1
        if row["set"] == DISTRACTOR_SET or (row["set"] == ENROLLED_SET and counts[speaker] <= ENROLLMENTS):
            enroll.append(ArchiveFile(path, speaker, path.stat().st_size))
        elif row["set"] == ENROLLED_SET:
            known_probes.append((path, speaker))
        elif counts[speaker] == 1:
            unknown_probes.append((path, row["set"]))
    services.ingest("enrolled", None).run(enroll, source="enroll")
    voices = services.voices("enrolled")
    own, right, accepted = [], 0, 0
    for path, speaker in known_probes:
        (found,) = voices.identify(voices.hear(path)[:1], top_k=5)
        answer = found.answer
        right += answer.candidates[0].speaker == speaker
        accepted += answer.speaker == speaker
        own += [candidate.score for candidate in answer.candidates if candidate.speaker == speaker]
    say(
        f"identification: {len({a.speaker for a in enroll})} enrolled; {right} of {len(known_probes)} known probes "
        f"rank their speaker first, {accepted} accepted; lowest own score {min(own):.3f}"
    )
    best: dict[str, list[float]] = {}
    named = refused = 0
    for path, of_set in unknown_probes:
        try:
            heard = voices.hear(path)[:1]
        except InvalidAudio:
            refused += 1
            continue
        answer = voices.identify(heard, top_k=1)[0].answer
        named += answer.outcome == "identified"
        best.setdefault(of_set, []).append(answer.candidates[0].score)
    scored = sum(len(scores) for scores in best.values())
    say(f"unknown voices: {scored} scored, {refused} refused as unusable, {named} named at the default operating point")
    for of_set, scores in sorted(best.items()):
        say(f"  {of_set:24} n={len(scores):4} median best {np.median(scores):.3f} highest {max(scores):.3f}")


def verify_all_pairs(services: Services, folder: Path, rows: Sequence[dict[str, str]]) -> None:
    """Score every pair of recordings; errors by set and by threshold."""
    with services.database.read_scope() as session:
        gallery = Galleries(session).by_name("archive")
        embeddings = Embeddings(session)
        blocks = list(embeddings.stream(GalleryId(gallery.id), gallery.encoder_id))
        ids = np.concatenate([block[0] for block in blocks])
        vectors = np.concatenate([block[1] for block in blocks])
        stretches = embeddings.stretches(ids.tolist())
    by_path = {str((folder / row["path"]).resolve()): row for row in rows}
    found = [by_path.get(stretches[number].uri) for number in ids.tolist()]
    keep = [position for position, row in enumerate(found) if row is not None]
    vectors = vectors[keep]
    speakers = np.array([row["speaker"] for row in found if row is not None])
    sets = np.array([row["set"] for row in found if row is not None])
    for of_set in sorted(set(sets)):
        target, other = pairs(vectors[sets == of_set], speakers[sets == of_set])
        if len(target):
            rate, at = equal_error_rate(target, other)
            say(f"  {of_set:24} {len(target):6} target, {len(other):7} other pairs: EER {rate:.2%} at {at:.3f}")
    ordinary = ~np.isin(sets, list(SHORT_SETS))
    target, other = pairs(vectors[ordinary], speakers[ordinary])
    say(f"all pairs of ordinary utterances: {len(target)} target, {len(other)} other")
    for threshold in THRESHOLDS:
        miss, false_alarm = (target < threshold).mean(), (other >= threshold).mean()
        say(f"  threshold {threshold:.2f}: p_miss {miss:.3%}, p_fa {false_alarm:.3%}")


def pairs(vectors: Scores, speakers: NDArray[np.str_]) -> tuple[Scores, Scores]:
    """Scores of every pair, of one speaker and of two."""
    upper = np.triu_indices(len(vectors), 1)
    scores = (vectors @ vectors.T)[upper]
    same = (speakers[:, None] == speakers[None, :])[upper]
    return scores[same], scores[~same]


def equal_error_rate(target: Scores, other: Scores) -> tuple[float, float]:
    """Where misses and false alarms are equally frequent, and the threshold there."""
    thresholds = np.sort(np.concatenate([target, other]))
    miss = np.searchsorted(np.sort(target), thresholds) / len(target)
    false_alarm = 1 - np.searchsorted(np.sort(other), thresholds) / len(other)
    at = int(np.argmin(np.abs(miss - false_alarm)))
    return float(miss[at] + false_alarm[at]) / 2, float(thresholds[at])


def main() -> None:
    """Run the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    with (folder / "manifest.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["speaker"]]
    with tempfile.TemporaryDirectory(prefix="voxdex-report-") as home:
        services = Services(load_settings(home=Path(home)))
        try:
            ingest_everything(services, folder)
            identify_everyone(services, folder, rows)
            verify_all_pairs(services, folder, rows)
        finally:
            services.close()


if __name__ == "__main__":
    main()
