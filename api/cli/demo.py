"""`voxdex demo`: the main job on real speech, and what was right or wrong about it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.cli.demo_sets import MIN_SPEECH_S, DemoProbe, DemoSet, labeled_recordings, meeting_excerpts
from api.cli.ingest import IngestProgress
from api.cli.output import outcome_text, print_line, print_table
from api.cli.progress import transfer_progress, waiting
from indexer.archive import everybody, list_archive, nobody
from search.evidence import llr_in_words

if TYPE_CHECKING:
    from api.dependencies import Services

GALLERY = "demo"


def run_demo(services: "Services", *, data: Path | None, most_speakers: int, quiet: bool) -> dict[str, Any]:
    """Fetch, ingest, enroll, identify, verify; return everything that was found, with what was right and wrong."""
    started = time.perf_counter()

    def say(text: str) -> None:
        if not quiet:
            print_line(text)

    spec = services.registry.get(services.settings.embedding.encoder)
    with transfer_progress(quiet=quiet) as progress:
        demo = labeled_recordings(data, most_speakers) if data else meeting_excerpts(services.settings, progress)
        services.registry.pull(spec, progress=progress)
    say(f"Recordings: {demo.title}" + (f"\n            {demo.credit}" if demo.credit else ""))
    say(f"Encoder:    {spec.name} ({spec.license}; published EER {spec.published_eer})")

    # A gallery of its own for every set of recordings, so that a second run, or other data, meets no leftovers.
    gallery = GALLERY if data is None else f"{GALLERY}-{data.resolve().stem}"
    ingest = services.ingest(gallery, None)
    files = list_archive(demo.archive, nobody).files
    with IngestProgress("ingest", len(files), quiet=quiet) as shown:
        taken = ingest.run(files, source="demo", on_file=shown.update)
    archive = taken.tally
    if archive.ingested:
        say(
            f"Ingested:   {archive.ingested} recordings, {archive.audio_s / 60:.1f} min of audio, "
            f"{archive.times_real_time:.0f} times real time"
        )
    elif demo.archive:
        say(f"Ingested:   {archive.duplicate} recordings were already there")
    for failure in taken.failures:
        say(f"Refused:    {Path(failure.path).name} ({failure.code})")
    enrolled = 0
    with waiting("enroll", total=len(demo.enrollments), quiet=quiet) as advance:
        for speaker, recordings in demo.enrollments.items():
            listing = list_archive(recordings, everybody(speaker))
            enrolled += ingest.run(listing.files, source="demo", naming="must").tally.found
            advance()
    unknown = sorted({probe.speaker for probe in demo.probes if not probe.enrolled})
    say(f"Enrolled:   {len(demo.enrollments)} people with {enrolled} recordings; kept out: {', '.join(unknown)}")

    with waiting("identify, verify, search", quiet=quiet):
        report = _Report(services, gallery, demo)
    if not quiet:
        report.print()
        _print_next(gallery, demo)
    elapsed_s = time.perf_counter() - started
    say(f"\nDone in {elapsed_s:.0f} s.")
    return {**report.document(), "elapsed_s": round(elapsed_s, 2)}


class _Report:
    """Every probe identified, and verified against every enrolled person."""

    def __init__(self, services: "Services", gallery: str, demo: DemoSet) -> None:
        voices = services.voices(gallery)
        self._gallery = gallery
        self._identified: list[dict[str, Any]] = []
        self._trials: list[dict[str, Any]] = []
        self._archive_hits: list[dict[str, Any]] = []
        for probe in demo.probes:
            voice = voices.hear(probe.path)[0]
            (identified,) = voices.identify([voice], top_k=5, best_enrollments=0)
            answer = identified.answer
            truth = probe.speaker if probe.enrolled else None
            self._identified.append({"probe": probe, "answer": answer, "right": answer.speaker == truth})
            for speaker in demo.enrollments:
                decision = voices.verify(voice, speaker, best_enrollments=0).answer
                target = speaker == probe.speaker
                right = (decision.outcome == "accept") == target
                self._trials.append(
                    {"probe": probe, "claimed": speaker, "target": target, "decision": decision, "right": right}
                )
            if demo.archive:
                occurrences = voices.search(voice).recordings
                names = [Path(found.uri).name for found in occurrences if Path(found.uri) in set(demo.archive)]
                self._archive_hits.append({"probe": probe, "recordings": names})

    def print(self) -> None:
        """Print the tables."""
        rows = []
        for found in self._identified:
            probe: DemoProbe = found["probe"]
            answer = found["answer"]
            candidates = answer.candidates
            others = [c for c in candidates if c.speaker != probe.speaker]
            own = [c for c in candidates if c.speaker == probe.speaker]
            rows.append(
                [
                    probe.path.name,
                    probe.speaker if probe.enrolled else f"{probe.speaker} (not enrolled)",
                    outcome_text(answer.speaker or "unknown", good=answer.outcome == "identified"),
                    f"{own[0].score:.3f}" if own else "",
                    llr_in_words(candidates[0].llr) if candidates and candidates[0].llr is not None else "",
                    f"{others[0].score:.3f} {others[0].speaker}" if others else "",
                    "right" if found["right"] else "WRONG",
                ]
            )
        columns = ["probe", "who it is", "who voxdex says", "own score", "best candidate", "best other", ""]
        print_table(columns, rows, title="\nIdentification: who is this voice?")
        right = sum(found["right"] for found in self._identified)
        print_line(f"{right} of {len(self._identified)} right ({self._identified[0]['answer'].operating_point.asked})")

        targets = [trial for trial in self._trials if trial["target"]]
        others = [trial for trial in self._trials if not trial["target"]]
        rows = [
            [
                kind,
                len(trials),
                sum(trial["decision"].outcome == "accept" for trial in trials),
                min(trial["decision"].score for trial in trials),
                max(trial["decision"].score for trial in trials),
                sum(not trial["right"] for trial in trials),
            ]
            for kind, trials in (("the person they claim to be", targets), ("somebody else", others))
            if trials
        ]
        columns = ["the voice is", "trials", "accepted", "lowest score", "highest score", "wrong"]
        print_table(columns, rows, title="\nVerification: is this the person they claim to be?")
        right = sum(trial["right"] for trial in self._trials)
        print_line(f"{right} of {len(self._trials)} right ({self._trials[0]['decision'].operating_point.asked})")
        if self._archive_hits:
            rows = [
                [hit["probe"].path.name, ", ".join(sorted(hit["recordings"])), ", ".join(hit["probe"].speaks_in)]
                for hit in self._archive_hits
            ]
            print_table(
                ["probe", "voxdex hears it in", f"speaks {MIN_SPEECH_S / 2:.0f} s or more in"],
                rows,
                title="\nSearch: where in the archive does this voice speak?",
            )

    def document(self) -> dict[str, Any]:
        """Return the same as data."""
        return {
            "gallery": self._gallery,
            "identification": [
                {
                    "path": str(found["probe"].path),
                    "speaker": found["probe"].speaker,
                    "enrolled": found["probe"].enrolled,
                    "decision": found["answer"].outcome,
                    "answer": found["answer"].speaker,
                    "operating_point": found["answer"].operating_point,
                    "candidates": found["answer"].candidates,
                    "right": found["right"],
                }
                for found in self._identified
            ],
            "verification": [
                {
                    "path": str(trial["probe"].path),
                    "speaker": trial["probe"].speaker,
                    "claimed": trial["claimed"],
                    "decision": trial["decision"].outcome,
                    "score": trial["decision"].score,
                    "llr": trial["decision"].llr,
                    "operating_point": trial["decision"].operating_point,
                    "right": trial["right"],
                }
                for trial in self._trials
            ],
            "search": [{"path": str(hit["probe"].path), "recordings": hit["recordings"]} for hit in self._archive_hits],
        }


def _print_next(gallery: str, demo: DemoSet) -> None:
    import os
    import sys

    # The command as this user can type it: by its path where the environment is not activated.
    command = Path(sys.argv[0])
    if command.is_absolute() and command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    probe = next((probe for probe in demo.probes if probe.enrolled), demo.probes[0])
    path = os.path.relpath(probe.path) if probe.path.is_relative_to(Path.cwd()) else str(probe.path)
    print_line("\nNext:")
    print_line(f"  {command} identify {path} --gallery {gallery}")
    print_line(f"  {command} verify {path} --speaker {probe.speaker} --gallery {gallery}")
    print_line(f"  {command} search {path} --gallery {gallery}")
    print_line(f"  {command} ingest /your/archive --speaker-from parent")
    print_line(f"  {command} --help")
