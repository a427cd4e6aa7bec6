"""Options of the commands about voices: how to listen, and where to decide."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import check_speakers

if TYPE_CHECKING:
    from api.deciding import Asked
    from api.probing import HearingAsked

Force = Annotated[
    bool, typer.Option("--force", help="Decide however little or noisy the speech is, as long as it can be embedded.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Decide by the score: accept at this cosine or above (default: the gallery's, else the setting's).",
        show_default=False,
    ),
]
LlrThreshold = Annotated[
    float | None,
    typer.Option(
        "--llr-threshold", help="Decide by the llr: accept at this natural-log llr or above.", show_default=False
    ),
]
Fpir = Annotated[
    float | None,
    typer.Option("--fpir", help="Decide by an error rate: share of unknown voices named, as 0.01.", show_default=False),
]
PFa = Annotated[
    float | None,
    typer.Option("--p-fa", help="Decide by an error rate: share of strangers accepted, as 0.001.", show_default=False),
]
PTarget = Annotated[
    float | None,
    typer.Option(
        "--p-target",
        help="Decide at least cost: how likely the claim is true, or the voice enrolled, beforehand.",
        show_default=False,
    ),
]
CMiss = Annotated[
    float | None, typer.Option("--c-miss", help="With --p-target: cost of a miss (default: 1).", show_default=False)
]
CFa = Annotated[
    float | None,
    typer.Option("--c-fa", help="With --p-target: cost of a false alarm (default: 1).", show_default=False),
]
Prior = Annotated[
    float | None,
    typer.Option(
        "--prior",
        help="What posteriors assume beforehand (default: --p-target, else the setting's).",
        show_default=False,
    ),
]
BestEnrollments = Annotated[
    int,
    typer.Option("--best-enrollments", help="Most enrollments that the voice resembles, for --json.", min=0, max=20),
]


def asked(
    *,
    threshold: float | None = None,
    llr_threshold: float | None = None,
    rate: float | None = None,
    p_target: float | None = None,
    c_miss: float | None = None,
    c_fa: float | None = None,
    prior: float | None = None,
    possible_threshold: float | None = None,
    possible_llr_threshold: float | None = None,
    possible_rate: float | None = None,
) -> "Asked":
    """Put together what a command line asks of decisions; raises InvalidRequest where it asks twice."""
    from api.deciding import Asked, costs_of
    from search.operating_point import Wanted

    wanted = Wanted(
        score=threshold,
        llr=llr_threshold,
        rate=rate,
        costs=costs_of(p_target, c_miss, c_fa, prior),
        possible_score=possible_threshold,
        possible_llr=possible_llr_threshold,
        possible_rate=possible_rate,
    )
    return Asked(wanted, prior)


def hearing(channels: str | None, speakers: str | None, force: bool) -> "HearingAsked":
    """Put together how a command line has recordings listened to; raises InvalidRequest where it cannot be done."""
    from api.probing import HearingAsked

    check_speakers(speakers)
    return HearingAsked(channels, speakers, force)
