"""The voice of a request: decoded and embedded under the limits of a probe.

A recording that decodes and holds too little speech is an answer ("not enough speech: this much, that much is needed")
and not an error; a decision about it would be a guess.
"""

from dataclasses import dataclass
from pathlib import Path

from indexer.audio.channels import ChannelPolicy
from indexer.embedding.encoder import Encoder
from indexer.errors import InvalidRequest, TooLittleSpeech, one_line
from indexer.probes import Probe, embed_probes
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a recording: one voice, or too little of it.

    Attributes
    ----------
    probe
        The voice; None where there was not enough speech.
    speech_s, needed_s
        Seconds that were, or could have been, embedded; the fewest that the encoder embeds.
    issues
        Why the recording was read in part only, or not at all.
    """

    probe: Probe | None
    speech_s: float
    needed_s: float
    issues: tuple[str, ...]


def hear(encoder: Encoder, recording: Path, *, name: str, channels: str | None, settings: Settings) -> Heard:
    """Embed the one voice of a recording.

    Parameters
    ----------
    name
        What messages call the recording.
    channels
        Channel policy; None means the setting's.

    Raises
    ------
    InvalidAudio
        If the recording cannot be decoded, or exceeds a limit of probes.
    InvalidRequest
        If the policy is unknown, or keeps several channels of it apart: a decision is about one voice, and "any of
        these" would accept too much.
    """
    policy = ChannelPolicy.parse(channels or settings.audio.channels)
    needed_s = encoder.min_samples / SAMPLE_RATE_HZ
    try:
        probes = embed_probes(encoder, recording, channels=policy, limits=settings.probe_audio, name=name)
    except TooLittleSpeech as error:
        return Heard(None, error.speech_s, needed_s, (one_line(error),))
    if len(probes) > 1:
        raise InvalidRequest(
            f"{name}: {len(probes)} channels hold sound and channels = {policy} keeps them apart; a decision is about "
            "one voice: ask for each with channels=0, channels=1, ..., or for channels=mix"
        )
    if not probes:  # Sound only as a jump between stretches of silence: no stretch of it can be embedded.
        return Heard(None, 0.0, needed_s, (f"{name}: no stretch of it holds sound",))
    probe = probes[0]
    return Heard(probe, probe.duration_s, needed_s, probe.issues)
