"""What finding speech and telling voices apart cost ingest: `python -m tests.reports.listening FOLDER [--every N]`.

Prints the CPU seconds of the process for the same files under three ways to listen, in turn, twice; the first round
warms up. CPU seconds, for they do not depend on what else the machine does.
"""

import argparse
import sys
import time
from pathlib import Path

from api.dependencies import Services
from indexer.archive import list_archive, nobody
from indexer.audio.channels import ChannelPolicy
from indexer.embedding.encoder_set import EncoderSet
from indexer.listening_choices import listening_as_asked
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import load_settings

WAYS = (("off", "one"), ("auto", "one"), ("auto", "auto"))
"""Of `--speech` and `--speakers`; what the others are compared with comes first."""


def main() -> None:
    """Embed the files under each way, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every Nth file")
    parser.add_argument("--encoder", help="name of the encoder")
    asked = parser.parse_args()
    services = Services(load_settings())
    encoder = services.comparison(asked.encoder).encoder
    files = list_archive([asked.folder], nobody).files[:: asked.every]
    spent_s: dict[tuple[str, str], float] = {}
    for _ in range(2):
        for speech, speakers in WAYS:
            pipeline = EmbeddingPipeline(
                EncoderSet(encoder),
                channels=ChannelPolicy.parse("mix"),
                limits=services.settings.audio,
                decode_threads=services.settings.ingest.decode_threads,
                is_known=lambda content: False,
                listening=listening_as_asked(
                    services.listening, services.settings.speech, speakers=speakers, speech=speech
                ),
            )
            started = time.process_time()
            done = list(pipeline.run(files))
            spent_s[speech, speakers] = time.process_time() - started
            audio_s = sum(result.duration_s for result in done)
            several = sum(len(result.voices_s) > 1 for result in done)
            refused = sum(result.error is not None for result in done)
            ratio = spent_s[speech, speakers] / spent_s[WAYS[0]]
            sys.stdout.write(
                f"speech {speech}, speakers {speakers}: {spent_s[speech, speakers]:.1f} CPU s for {audio_s:.0f} s of "
                f"audio ({ratio:.2f}); {several} of {len(done)} with several voices, {refused} refused\n"
            )
            sys.stdout.flush()
    services.close()


if __name__ == "__main__":
    main()
