"""Whether an utterance is good enough to enroll a voice with, or to decide about one: refused with figures."""

from dataclasses import dataclass

from indexer.audio.quality import Quality
from indexer.errors import NotEnoughSpeech, TooNoisy


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

    def refusal(self, quality: Quality, name: str) -> NotEnoughSpeech | TooNoisy | None:
        """Return why speech is not enough, less than needed or with louder noise than allowed; None where it is."""
        if quality.net_speech_s < self.needed_s:
            error = NotEnoughSpeech(
                f"{name}: {quality.net_speech_s:.2g} s of speech, needed are {self.needed_s:g} s ({self.setting}); "
                "give a longer recording, best 10 s or more"
            )
            error.speech_s, error.needed_s = quality.net_speech_s, self.needed_s
            return error
        if self.min_snr_db is not None and quality.snr_db is not None and quality.snr_db < self.min_snr_db:
            return TooNoisy(
                f"{name}: speech is {quality.snr_db:.0f} dB above the noise, asked for are {self.min_snr_db:g} dB "
                "(VOXDEX_SPEECH__MIN_SNR_DB); record closer to the mouth or in a quieter place"
            )
        return None

    def require(self, quality: Quality, name: str) -> None:
        """Refuse speech that is not enough.

        Raises
        ------
        NotEnoughSpeech
            If there is less than needed.
        TooNoisy
            If the noise behind it is louder than allowed.
        """
        refused = self.refusal(quality, name)
        if refused is not None:
            raise refused
