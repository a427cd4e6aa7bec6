"""`voxdex calibrate` and `voxdex calibrations`: what turns scores into likelihood ratios."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options
from api.cli.evaluation_options import (
    Part,
    Report,
    Sets,
    Without,
    read_recordings,
    require_report,
    save_report,
)
from api.cli.output import counted, print_json, print_line, print_notice, print_table
from indexer.errors import InvalidRequest, NotFound

if TYPE_CHECKING:  # Loads SQLAlchemy, torch and NumPy.
    from collections.abc import Iterable

    from api.calibration_store import CalibrationStore
    from api.dependencies import Services
    from indexer.embedding.encoder import Encoder
    from search.calibration import Calibration

calibrations = typer.Typer(help="List, show, use, import, export and delete calibrations.", no_args_is_help=True)

_Id = Annotated[str, typer.Argument(help="Its id, or the beginning of it.", show_default=False)]
_NameOrId = Annotated[
    str, typer.Argument(help="Its name, where no other has it; or its id, or the beginning of it.", show_default=False)
]


def calibrate(
    labels: Annotated[
        Path,
        typer.Argument(
            help="CSV of recordings: path, speaker, and where known session and original (what a copy is of); or a "
            "trial list with --trials.",
            show_default=False,
            readable=False,
        ),
    ],
    audio_root: Annotated[
        Path | None,
        typer.Option(
            "--audio-root",
            help="Folder that the paths are below (default: that of the list).",
            show_default=False,
            readable=False,
        ),
    ] = None,
    trials: Annotated[
        bool, typer.Option("--trials", help="The list is of trials: `1 a.wav b.wav`, or CSV enroll, probe, target.")
    ] = False,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            help="Encoder's name, or path of a .nemo file; give two to fuse their scores (default: the gallery's, or "
            "the default one).",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The condition it is for, as default or telephone.")] = "default",
    description: Annotated[
        str | None,
        typer.Option("--description", help="What the recordings are (default: the list's name).", show_default=False),
    ] = None,
    gallery: Annotated[
        str | None, typer.Option("--gallery", "-g", help="Let this gallery use it.", show_default=False)
    ] = None,
    as_norm: Annotated[
        bool,
        typer.Option(
            "--as-norm", help="Fit it to scores that are normalized by other speakers, as a gallery can have them."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write it to this file instead of the record.", show_default=False, readable=False
        ),
    ] = None,
    report: Report = None,
    sets: Sets = None,
    part: Part = None,
    without: Without = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Hear every recording anew, and remember nothing.")
    ] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Fit a calibration to recordings of known speakers, and measure it on speakers that the fit had not seen."""
    from contextlib import closing, nullcontext
    from datetime import UTC, datetime

    from api.calibrating import CalibrationWanted
    from api.calibrating import calibrate as fit
    from api.calibration_store import CalibrationStore
    from api.cli.files import check_output
    from api.cli.progress import work_progress
    from api.dependencies import open_services
    from api.evaluation.cache import HeardCache
    from search.trials import read_trials

    if trials and (sets or part or without):
        raise InvalidRequest(
            "--sets, --part and --without choose recordings of a manifest: leave them out, or give no --trials"
        )
    if gallery and output:
        raise InvalidRequest(
            "--gallery keeps the calibration in the record, --output does not: give one of them, or export it later"
        )
    if output is not None:
        check_output(output, [labels])
    require_report(report)
    labeled = read_trials(labels) if trials else read_recordings(labels, sets, part, without)
    with open_services(home=home) as services:
        cohort = _cohort(services, gallery) if as_norm else None
        wanted = CalibrationWanted(name, description or labels.name, datetime.now(UTC).date().isoformat(), cohort)
        encoders = _encoders(services, gallery, encoder or [])
        cache = None if no_cache else HeardCache(services.settings.cache / "evaluation")
        with closing(cache) if cache else nullcontext():
            made = fit(
                labeled,
                audio_root or labels.parent,
                encoders,
                services.settings,
                wanted,
                cache=cache,
                progress=lambda label, total: work_progress(label, total, quiet=as_json),
            )
        if output:
            _write(made.calibration, output)
        elif gallery:
            CalibrationStore(services.record()).use(gallery, made.calibration)
        else:
            CalibrationStore(services.database).keep(made.calibration)
    if report:
        from api.evaluation.pages import calibration_page

        save_report(report, lambda: calibration_page(made), quiet=as_json)
    if as_json:
        print_json(
            {
                "id": made.calibration.id,
                "recordings": made.recordings,
                "refused": dict(made.refused),
                "likely_one_voice": [list(pair) for pair in made.likely_one_voice],
                "gallery": gallery,
                "output": output,
                "calibration": made.calibration.to_document(),
            }
        )
        return
    for code, count in made.refused.items():
        print_notice(f"{counted(count, 'recording')} not used: {code}")
    for first, second in made.likely_one_voice:
        print_notice(f"speakers {first} and {second} sound like one voice: check their labels")
    _print(made.calibration)
    kept = f"written to {output}" if output else f"kept as {made.calibration.id[:12]}"
    print_line(kept + (f", and used by gallery {gallery}" if gallery else ""))
    if as_norm and gallery:
        print_notice(f"scores stay plain until voxdex galleries change {gallery} --score-normalization on")
    if not gallery and not output:
        print_notice(f"no gallery uses it yet: voxdex calibrations use {made.calibration.id[:12]} --gallery NAME")


def _cohort(services: "Services", gallery: str | None) -> int:
    """Return the most speakers of a cohort: of a gallery that is to use it, no more than are enrolled there."""
    from indexer.db.galleries import Galleries
    from indexer.db.speakers import Speakers
    from indexer.types import GalleryId
    from search.normalization import MOST_COHORT, require_cohort

    if gallery is None:
        return MOST_COHORT
    with services.record().read_scope() as session:
        enrolled = Speakers(session).count_enrolled(GalleryId(Galleries(session).by_name(gallery).id))
    require_cohort(enrolled)
    return min(enrolled, MOST_COHORT)


@calibrations.command("list")
def list_calibrations(home: options.Home = None, as_json: options.Json = False) -> None:
    """List the calibrations that come with voxdex and those of this record."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        rows = _store(services).list()
        names = _encoder_names(services, [found for found, _ in rows])
    if as_json:
        print_json({"calibrations": [{**_summary(found), "origin": origin} for found, origin in rows]})
        return
    print_table(
        ["id", "name", "encoders", "speakers", "Cllr", "min Cllr", "fitted", "from"],
        [
            [
                found.id[:12],
                found.name,
                " + ".join(names.get(encoder_id, encoder_id) for encoder_id in found.encoder_ids),
                found.data.speakers,
                found.cllr_after,
                found.min_cllr,
                found.data.fitted_at,
                origin,
            ]
            for found, origin in rows
        ],
    )


@calibrations.command("show")
def show(calibration_id: _NameOrId, home: options.Home = None, as_json: options.Json = False) -> None:
    """Show a calibration: what it was fitted on, how good it is, its weights."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        found = _store(services).find(calibration_id)
    if as_json:
        print_json({"id": found.id, **found.to_document()})
        return
    _print(found)
    for feature, weight in found.weights.items():
        print_line(f"  {feature:24} {weight:10.4f}")


@calibrations.command("use")
def use(
    calibration_id: Annotated[
        str | None,
        typer.Argument(help="Its name, where no other has it; or its id, or the beginning of it.", show_default=False),
    ] = None,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    shipped: Annotated[bool, typer.Option("--shipped", help="Go back to the one that comes with voxdex.")] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Let a gallery use a calibration; its encoders must be the gallery's."""
    from api.dependencies import open_services

    if (calibration_id is None) is not shipped:
        raise InvalidRequest("give the id of a calibration, or --shipped; `voxdex calibrations list` shows them")
    with open_services(home=home) as services:
        store = _store(services)
        found = store.find(calibration_id) if calibration_id else None
        store.use(gallery, found)
        second = services.catalog.gallery(gallery).second_encoder_id
    used = found.id if found else None
    if found and second and len(found.encoder_ids) == 1:
        print_notice(
            f"gallery {gallery} has two encoders, and this calibration is of one: decisions are made under that one "
            f"alone until voxdex calibrate --gallery {gallery} fits one of both"
        )
    if as_json:
        print_json({"gallery": gallery, "calibration_id": used})
    else:
        print_line(f"gallery {gallery} uses " + (f"calibration {used[:12]}" if used else "the shipped calibration"))


@calibrations.command("import")
def import_calibration(
    file: Annotated[Path, typer.Argument(help="JSON, as export writes it.", show_default=False, readable=False)],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Keep a calibration from a file; every figure of it is checked."""
    from api.calibration_store import CalibrationStore
    from api.dependencies import open_services
    from search.calibration import read_calibration

    if not file.is_file():
        raise NotFound(f"no file at {file}; `voxdex calibrations export` writes one")
    found = read_calibration(file)
    with open_services(home=home) as services:
        CalibrationStore(services.database).keep(found)
    if as_json:
        print_json(_summary(found))
    else:
        print_line(f"kept as {found.id[:12]}")


@calibrations.command("export")
def export(
    calibration_id: _NameOrId,
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False, readable=False)],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Write a calibration to a JSON file."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        found = _store(services).find(calibration_id)
    _write(found, file)
    if as_json:
        print_json({**_summary(found), "output": file})
    else:
        print_line(f"calibration {found.id[:12]} written to {file}")


@calibrations.command("delete")
def delete(
    calibration_id: _Id, yes: options.Yes = False, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Delete a calibration of this record; galleries that use it go back to the shipped one."""
    from api.cli.catalog import confirm
    from api.dependencies import open_services

    with open_services(home=home) as services:
        store = _store(services)
        found = store.find_id(calibration_id)  # A damaged one can be deleted too.
        confirm(f"Delete calibration {found[:12]}?", yes=yes)
        store.delete(found)
    if as_json:
        print_json({"deleted": found})
    else:
        print_line(f"deleted calibration {found[:12]}")


def _store(services: "Services") -> "CalibrationStore":
    from api.calibration_store import CalibrationStore

    return CalibrationStore(services.record() if services.exists else None)


def _encoders(services: "Services", gallery: str | None, names: list[str]) -> "list[Encoder]":
    """Load the encoders that are named; else the gallery's, else the default one."""
    if names or gallery is None:
        wanted: list[str | None] = [*names] or [None]
        return [services.encoders.load(name)[0] for name in wanted]
    from indexer.db.galleries import Galleries
    from indexer.types import GalleryId

    with services.record().read_scope() as session:
        number = GalleryId(Galleries(session).by_name(gallery).id)
    return list(services.encoders.all_of_gallery(services.database, number))


def _encoder_names(services: "Services", calibrations: "Iterable[Calibration]") -> dict[str, str]:
    """Return names by encoder id: of encoders in the record, and of published weights by their hash."""
    from indexer.db.encoders import Encoders

    published = {spec.sha256[:16]: spec.name for spec in services.registry.list() if spec.sha256}
    of_calibrations = {one for calibration in calibrations for one in calibration.encoder_ids}
    names: dict[str, str] = {one: published[one[:16]] for one in of_calibrations if one[:16] in published}
    if services.exists:
        with services.record().read_scope() as session:
            names |= {encoder.id: encoder.name for encoder in Encoders(session).all()}
    return names


def _write(calibration: "Calibration", file: Path) -> None:
    document = json.dumps(calibration.to_document(), indent=2, allow_nan=False)
    file.write_text(document + "\n", encoding="utf-8")


def _summary(calibration: "Calibration") -> dict[str, Any]:
    document = calibration.to_document()
    kept = ("name", "encoder_ids", "data", "cllr_before", "cllr_after", "min_cllr")
    return {"id": calibration.id, **{key: document[key] for key in kept}}


def _print(calibration: "Calibration") -> None:
    data = calibration.data
    print_line(f"calibration {calibration.name} ({calibration.id[:12]}) of {' + '.join(calibration.encoder_ids)}")
    print_line(
        f"fitted {data.fitted_at} on {data.description}: {counted(data.recordings, 'recording')} of "
        f"{counted(data.speakers, 'speaker')}, {data.target_trials:,} target and {data.nontarget_trials:,} nontarget "
        "trials"
    )
    print_line(
        f"on speakers held out: Cllr {calibration.cllr_before:.3f} before, {calibration.cllr_after:.3f} after, "
        f"{calibration.min_cllr:.3f} at best"
    )
    if calibration.normalized is not None:
        print_line(f"of scores normalized by a cohort of {counted(calibration.normalized.cohort, 'speaker')} (as-norm)")
    if calibration.open_set is None:
        print_line("too few speakers to promise an error rate of identification (FPIR)")
