"""What a request about a voice asks: how to listen, and where to decide."""

from typing import Annotated

from fastapi import Depends, Query

from api.deciding import Asked, costs_of
from api.probing import HearingAsked
from api.schemas.common import Cosine, Text
from indexer.settings import SPEAKERS_PATTERN
from search.operating_point import Wanted

# What reads parameters is `async` without waiting for anything: else it would run in a thread, one for each of them.

Llr = Annotated[float | None, Query(ge=-1000, le=1000, allow_inf_nan=False)]
_Cost = Annotated[float | None, Query(gt=0, le=1e9, allow_inf_nan=False)]
_Share = Annotated[float | None, Query(gt=0, lt=1, allow_inf_nan=False)]

_ScoreThreshold = Annotated[
    Cosine | None,
    Query(description="Decide by the score: accept from this cosine on. Left out: the gallery's or the setting's."),
]
_LlrThreshold = Annotated[Llr, Query(description="Decide by the llr: accept from this natural-log llr on.")]
_PTarget = Annotated[
    _Share, Query(description="Decide at least cost: how likely the claim is true, or the voice enrolled, beforehand.")
]
_Prior = Annotated[
    _Share, Query(description="What the posteriors assume beforehand; left out: `p_target`, else the setting.")
]


async def _identification(
    threshold: _ScoreThreshold = None,
    llr_threshold: _LlrThreshold = None,
    fpir: Annotated[
        _Share,
        Query(description="Decide by an error rate: the share of unknown voices that may be named, as 0.01."),
    ] = None,
    p_target: _PTarget = None,
    c_miss: Annotated[_Cost, Query(description="Cost of a miss; left out: 1.")] = None,
    c_fa: Annotated[_Cost, Query(description="Cost of naming the wrong person; left out: 1.")] = None,
    possible_threshold: Annotated[
        Cosine | None, Query(description="Lower edge of the band `possible`, where the score decides.")
    ] = None,
    possible_llr_threshold: Annotated[
        Llr, Query(description="Lower edge of the band `possible`, where the llr decides.")
    ] = None,
    possible_fpir: Annotated[
        _Share, Query(description="The same as a share of unknown voices that may be named or called possible.")
    ] = None,
    prior: _Prior = None,
) -> Asked:
    wanted = Wanted(
        score=threshold,
        llr=llr_threshold,
        rate=fpir,
        costs=costs_of(p_target, c_miss, c_fa, prior),
        possible_score=possible_threshold,
        possible_llr=possible_llr_threshold,
        possible_rate=possible_fpir,
    )
    return Asked(wanted, prior)


async def _verification(
    threshold: _ScoreThreshold = None,
    llr_threshold: _LlrThreshold = None,
    p_fa: Annotated[
        _Share, Query(description="Decide by an error rate: the share of strangers that may be accepted, as 0.001.")
    ] = None,
    p_target: _PTarget = None,
    c_miss: Annotated[_Cost, Query(description="Cost of a miss; left out: 1.")] = None,
    c_fa: Annotated[_Cost, Query(description="Cost of a false alarm; left out: 1.")] = None,
    prior: _Prior = None,
) -> Asked:
    costs = costs_of(p_target, c_miss, c_fa, prior)
    return Asked(Wanted(score=threshold, llr=llr_threshold, rate=p_fa, costs=costs), prior)


async def _search(
    threshold: _ScoreThreshold = None,
    llr_threshold: _LlrThreshold = None,
    fpir: Annotated[
        _Share,
        Query(description="Decide by an error rate: the share of absent voices that may be found anywhere, as 0.01."),
    ] = None,
) -> Asked:
    return Asked(Wanted(score=threshold, llr=llr_threshold, rate=fpir))


_Channels = Annotated[
    Text | None,
    Query(
        max_length=16,
        description="mix, left, right, a channel number from 0, or each. Left out: the setting.",
        examples=["mix"],
    ),
]
_Speakers = Annotated[
    Text | None,
    Query(
        pattern=f"^({SPEAKERS_PATTERN})$",
        description="How many voices speak: auto, one, channels (one a channel), or a number from 1 to 20. Left "
        "out: the setting.",
        examples=["auto"],
    ),
]


async def _voices(channels: _Channels = None, speakers: _Speakers = None) -> HearingAsked:
    return HearingAsked(channels, speakers)


async def _hearing(
    channels: _Channels = None,
    speakers: _Speakers = None,
    allow_poor: Annotated[
        bool, Query(description="Decide however little or noisy the speech is, as long as it can be embedded.")
    ] = False,
) -> HearingAsked:
    return HearingAsked(channels, speakers, allow_poor)


AskedToIdentify = Annotated[Asked, Depends(_identification)]
AskedToVerify = Annotated[Asked, Depends(_verification)]
AskedToSearch = Annotated[Asked, Depends(_search)]
Hearing = Annotated[HearingAsked, Depends(_hearing)]
Voices = Annotated[HearingAsked, Depends(_voices)]
"""How to listen, where nothing is decided about the voices."""
