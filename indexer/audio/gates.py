"""Whether an utterance is good enough to enroll a voice with, or to decide about one: refused with figures."""

from dataclasses import dataclass

from indexer.audio.quality import LEAST_SNR_DB, Quality
from indexer.errors import NotEnoughSpeech, TooNoisy

CUT_OUT_S = 0.1
"""What a piece that was cut out of speech needs beyond what a whole word needs (docs/evaluation.md)."""

_ALL_SPEECH_S = 0.01
"""A recording that is speech but for so much has no beginning and no end in it."""


def needed_of_probe_s(least_s: float, *, net_speech_s: float, duration_s: float, snr_db: float | None) -> float:
    """Return the net speech that a decision about a voice needs.

    Parameters
    ----------
    least_s
        What a whole word in a quiet place needs.
    net_speech_s, duration_s
        Of the voice, and of the recording it is in.
    snr_db
        Power of speech over that of the noise; None: unknown. At the least that it can be it was not told either.
    """
    needed_s = least_s
    if net_speech_s >= duration_s - _ALL_SPEECH_S:
        needed_s += CUT_OUT_S
    if snr_db is not None and LEAST_SNR_DB < snr_db < 0.0:
        # As many times longer as the noise is stronger than the speech.
        needed_s *= 10 ** (-snr_db / 10)
    return needed_s


@dataclass(frozen=True, slots=True)
class SpeechGate:
    """What is asked of speech.

    Attributes
    ----------
    needed_s
        Least net speech.
    setting
        Where that is set, for the message.
    min_snr_db
        Least signal-to-noise ratio; None: any.
    """

    needed_s: float
    setting: str
    min_snr_db: float | None = None

    def refusal(self, quality: Quality, name: str, needed_s: float | None = None) -> NotEnoughSpeech | TooNoisy | None:
        """Return why speech is not enough, less than needed or with louder noise than allowed; None where it is.

        Parameters
        ----------
        needed_s
            What this very recording needs, where that is more.
        """
        needed_s = max(self.needed_s, needed_s or 0.0)
        if quality.net_speech_s < needed_s:
            limit = f"{self.needed_s:g} s ({self.setting})"
            if needed_s > self.needed_s:
                limit += f", and {needed_s:.2g} s where speech is cut out or drowned in noise"
            error = NotEnoughSpeech(
                f"{name}: {quality.net_speech_s:.2g} s of speech, needed are {limit}; give a longer recording, best "
                "10 s or more"
            )
            error.speech_s, error.needed_s = quality.net_speech_s, needed_s
            return error
        if self.min_snr_db is not None and quality.snr_db is not None and quality.snr_db < self.min_snr_db:
            return TooNoisy(
                f"{name}: speech is {quality.snr_db:.0f} dB above the noise, asked for are {self.min_snr_db:g} dB "
                "(VOXDEX_SPEECH__MIN_SNR_DB); record closer to the mouth or in a quieter place"
            )
        return None

    def require(self, quality: Quality, name: str, *, beside: str = "") -> None:
        """Refuse speech that is not enough.

        Parameters
        ----------
        beside
            What is to be known of the recording then, behind the reason.

        Raises
        ------
        NotEnoughSpeech
            If there is less than needed.
        TooNoisy
            If the noise behind it is louder than allowed.
        """
        refused = self.refusal(quality, name)
        if refused is not None:
            refused.args = (f"{refused}{beside}",)
            raise refused
