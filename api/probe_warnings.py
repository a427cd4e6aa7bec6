"""What makes an answer about a voice less sure than it looks, in plain words."""

from collections.abc import Sequence

from indexer.audio.quality import Quality
from indexer.probes import HeardVoice

SHORT_S = 3.0
"""Net speech below which scores vary a great deal; with the default encoder, misses at 1 % false alarms double."""

NOISY_DB = 10.0
CLIPPED_SHARE = 0.005


def quality_warnings(quality: Quality) -> list[str]:
    """Say what is wrong with a voice's own recording."""
    warned = []
    if quality.net_speech_s < SHORT_S:
        warned.append(f"short: {quality.net_speech_s:.1f} s of speech, and scores are steady from {SHORT_S:g} s on")
    if quality.snr_db is not None and quality.snr_db < NOISY_DB:
        warned.append(f"noisy: the speech is {quality.snr_db:.0f} dB above the noise, {NOISY_DB:g} or more is good")
    if quality.clipped_share > CLIPPED_SHARE:
        warned.append(f"clipped: {100 * quality.clipped_share:.1f} % of the samples are at full scale")
    return warned


def voices_warning(heard: Sequence[HeardVoice]) -> list[str]:
    """Say which voice an answer is about, where several are heard."""
    if len(heard) < 2:
        return []
    longest, total = heard[0].quality.net_speech_s, sum(voice.quality.net_speech_s for voice in heard)
    return [
        f"{len(heard)} voices are heard: this is about the one who speaks most, {longest:.1f} of {total:.1f} s of "
        f"speech, first at {heard[0].turns[0].start_s:.1f} s"
    ]


def band_warnings(probe: Quality, enrolled: Sequence[Quality | None]) -> list[str]:
    """Say where a telephone is compared with a full band; scores between the two are lower than within either."""
    known = [quality for quality in enrolled if quality is not None and quality.bandwidth_hz > 0]
    if not known or not probe.bandwidth_hz:
        return []
    narrow = all(quality.is_telephone for quality in known)
    if probe.is_telephone and not any(quality.is_telephone for quality in known):
        return ["telephone against wideband: the probe came through a telephone, what it is compared with did not"]
    if narrow and not probe.is_telephone:
        return ["wideband against telephone: what the probe is compared with came through a telephone, it did not"]
    return []


def pair_warnings(first: HeardVoice, second: HeardVoice) -> list[str]:
    """Say what is wrong with either of two recordings, by name, and with comparing them."""
    warned = []
    for voice in (first, second):
        warned += [f"{voice.name}: {text}" for text in quality_warnings(voice.quality)]
    return warned + band_warnings(first.quality, [second.quality])
