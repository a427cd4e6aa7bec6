"""Whether an utterance is good enough to decide by: refused with figures, or warned about."""

from collections.abc import Iterator
from dataclasses import dataclass

from indexer.audio.quality import Quality
from indexer.errors import NotEnoughSpeech, TooNoisy

MUCH_CLIPPED = 0.01
"""Share of samples at full scale from which on the voice itself is distorted."""


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
    refuses_noise
        Whether less is refused; otherwise it is warned about.
    """

    needed_s: float
    setting: str
    min_snr_db: float | None = None
    refuses_noise: bool = False

    def require(self, quality: Quality, name: str) -> tuple[str, ...]:
        """Refuse speech that is not enough; return what speaks against speech that is.

        Raises
        ------
        NotEnoughSpeech
            If there is less than needed.
        TooNoisy
            If noise is refused and there is more of it than allowed.
        """
        if quality.net_speech_s < self.needed_s:
            error = NotEnoughSpeech(
                f"{name}: {quality.net_speech_s:.2g} s of speech, needed are {self.needed_s:g} s ({self.setting}); "
                "give a longer recording, best 10 s or more"
            )
            error.speech_s, error.needed_s = quality.net_speech_s, self.needed_s
            raise error
        noise = self._noise(quality)
        if noise and self.refuses_noise:
            raise TooNoisy(f"{name}: {noise}")
        return (*([noise] if noise else []), *warnings(quality))

    def _noise(self, quality: Quality) -> str | None:
        if self.min_snr_db is None or quality.snr_db is None or quality.snr_db >= self.min_snr_db:
            return None
        return (
            f"speech is {quality.snr_db:.0f} dB above the noise, asked for are {self.min_snr_db:g} dB "
            "(VOXDEX_SPEECH__MIN_SNR_DB); record closer to the mouth or in a quieter place"
        )


def warnings(quality: Quality) -> Iterator[str]:
    """Say what makes an utterance a worse witness of a voice than its length suggests."""
    if quality.clipped_share > MUCH_CLIPPED:
        yield (
            f"{quality.clipped_share:.1%} of the samples are clipped: above {MUCH_CLIPPED:.0%} the voice is distorted; "
            "record it less loud"
        )
