"""Draw the pictures of docs/: those of concepts.md from vectors of labeled recordings, architecture.svg from this file.

voxdex embed RECORDINGS... -o vectors.npz        # keys: paths as the manifest has them
python docs/make_pictures.py vectors.npz speech/manifest.csv
"""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

TARGET = Path(__file__).with_name("pictures")

INK, QUIET, SAME, OTHER, LINE = "#22303c", "#7b8794", "#1a7f5a", "#b3541e", "#8a1c4a"

STYLE = {
    # Text stays text, and the same vectors give the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "voxdex",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

LONG, SHORT = ("librispeech_multi", "librispeech_testother", "an4"), ("speech_commands",)
SEED = 20260101


class Voices:
    """Vectors of recordings, with who speaks and which set they are of."""

    def __init__(self, vectors: Path, manifest: Path) -> None:
        with np.load(vectors) as found, manifest.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["path"] in found]
            self.vectors = np.stack([found[row["path"]] for row in rows])
        self.speakers = np.array([row["speaker"] for row in rows])
        self.sets = np.array([row["set"] for row in rows])

    def pairs(self, sets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of all pairs within each set: of one speaker, and of two."""
        same, other = [], []
        for name in sets:
            chosen = self.sets == name
            scores = self.vectors[chosen] @ self.vectors[chosen].T
            upper = np.triu_indices(len(scores), 1)
            one = np.equal.outer(self.speakers[chosen], self.speakers[chosen])[upper]
            same.append(scores[upper][one])
            other.append(scores[upper][~one])
        return np.concatenate(same), np.concatenate(other)


def draw_gallery(voices: Voices, figure: Figure) -> None:
    """Draw recordings and voiceprints of five readers, and two probes, in the plane that tells them apart best."""
    chosen = voices.sets == "librispeech_multi"
    vectors, speakers = voices.vectors[chosen], voices.speakers[chosen]
    names = sorted(set(speakers))
    enrolled, stranger = names[:5], names[5]
    means = np.stack([vectors[speakers == name][:-1].mean(axis=0) for name in enrolled])
    plane = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][:2]
    axes = figure.subplots()
    for number, name in enumerate(enrolled):
        placed = (vectors[speakers == name][:-1] - means.mean(axis=0)) @ plane.T
        color = mpl.colormaps["tab10"](number)
        axes.scatter(*placed.T, s=22, color=color, alpha=0.75, linewidths=0)
        axes.scatter(*placed.mean(axis=0), s=190, facecolors="none", edgecolors=[color], linewidths=2.2)
        axes.annotate(f"person {number + 1}", placed.mean(axis=0), (0, 20), textcoords="offset points", ha="center")
    probes = (
        ("probe of person 2", vectors[speakers == enrolled[1]][-1], (14, -18)),
        ("probe of nobody enrolled", vectors[speakers == stranger][0], (12, -16)),
    )
    for label, vector, offset in probes:
        where = (vector - means.mean(axis=0)) @ plane.T
        axes.scatter(*where, marker="*", s=210, color=LINE, zorder=3)
        axes.annotate(label, where, offset, textcoords="offset points", color=LINE)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.margins(0.16)


def draw_scores(voices: Voices, figure: Figure) -> None:
    """Draw how scores of one person and of two are spread, of whole utterances and of single words."""
    bins = np.linspace(-0.3, 1.0, 53)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, sets, title in (
        (upper, LONG, "whole utterances of some seconds"),
        (lower, SHORT, "single words of 1 s"),
    ):
        for scores, color, label in zip(
            voices.pairs(sets), (SAME, OTHER), ("the same person", "two people"), strict=True
        ):
            axes.hist(scores, bins, density=True, color=color, alpha=0.55, label=f"{label} ({len(scores):,} pairs)")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(yticks=[])
        axes.spines["left"].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    lower.set_xlabel("score (cosine)")


def draw_open_set(voices: Voices, figure: Figure) -> None:
    """Draw the best score that a stranger reaches among N enrolled people, by N."""
    chosen = np.isin(voices.sets, ["librispeech_multi", "librispeech_testother", "librispeech_251", "an4"])
    vectors, speakers = voices.vectors[chosen], voices.speakers[chosen]
    names, first = np.unique(speakers, return_index=True)
    scores = vectors[first] @ vectors[first].T
    np.fill_diagonal(scores, -1.0)
    random = np.random.default_rng(SEED)
    sizes = [size for size in (1, 2, 5, 10, 20, 50, 100, 200) if size < len(names)]
    best: list[np.ndarray] = []
    for size in sizes:
        drawn = [
            scores[probe, random.choice(np.delete(np.arange(len(names)), probe), size, replace=False)].max()
            for probe in range(len(names))
            for _ in range(40)
        ]
        best.append(np.array(drawn))
    axes = figure.subplots()
    for share, width in ((0.99, 2.4), (0.9, 1.4), (0.5, 1.4)):
        reached = [np.quantile(one, share) for one in best]
        axes.plot(sizes, reached, marker="o", markersize=4, linewidth=width, color=LINE if share == 0.99 else QUIET)
        said = {0.99: "1 of 100 strangers reaches this", 0.9: "1 of 10", 0.5: "every other one"}[share]
        axes.annotate(said, (sizes[-1], reached[-1]), (8, -3), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set(xlabel="people enrolled", ylabel="best score")
    axes.margins(x=0.02)
    figure.subplots_adjust(right=0.7)


def draw_architecture(figure: Figure) -> None:
    """Draw the parts and what goes between them."""
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(0, 62), aspect="equal")
    axes.axis("off")

    def box(x: float, y: float, width: float, height: float, title: str, below: str = "", color: str = QUIET) -> None:
        axes.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", facecolor="#f4f6f8",
                edgecolor=color, linewidth=1.4,
            )
        )  # fmt: skip
        lift = 1.6 if below else 0
        axes.text(x + width / 2, y + height / 2 + lift, title, ha="center", va="center", fontweight="bold", fontsize=9)
        if below:
            axes.text(x + width / 2, y + height / 2 - 1.9, below, ha="center", va="center", fontsize=7.2, color=INK)

    def arrow(
        start: tuple[float, float], end: tuple[float, float], label: str = "", at: tuple[float, float] = (0, 0)
    ) -> None:
        style = {"arrowstyle": "-|>", "color": QUIET, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end, start, arrowprops=style)
        if label:
            axes.text((start[0] + end[0]) / 2 + at[0], (start[1] + end[1]) / 2 + at[1], label, fontsize=7, color=INK)

    axes.add_patch(
        FancyBboxPatch(
            (2, 19), 96, 15, boxstyle="round,pad=0,rounding_size=1.2", fill=False, edgecolor=QUIET, linestyle="--"
        )
    )
    axes.text(50, 31.9, "one code path, in one process or in many", ha="center", va="center", fontsize=7.2, color=INK)
    box(2, 52, 22, 8, "command line", "voxdex ...")
    box(28, 52, 21, 8, "page", "in the browser")
    box(53, 52, 21, 8, "programs", "HTTP, Python client")
    box(28, 39, 46, 7, "API", "requests, keys, answers")
    box(79, 39, 19, 7, "workers", "jobs, on CPU or GPU")
    box(79, 52, 19, 8, "Redis", "wakes workers")
    box(5, 20.5, 42, 9, "read path", "embed the probe, scan, score exactly,\ncalibrate, decide")
    box(53, 20.5, 42, 9, "write path", "decode, find speech, tell voices apart,\nembed, commit")
    box(9, 3, 34, 10, "index: a projection", "FAISS over mapped files, on a GPU,\nor Milvus", LINE)
    box(57, 3, 34, 10, "database: the record", "SQLite or Postgres:\npeople, recordings, vectors, jobs", SAME)
    arrow((38.5, 52), (38.5, 46))
    arrow((63.5, 52), (63.5, 46))
    arrow((13, 52), (13, 34))
    arrow((51, 39), (51, 34))
    arrow((88.5, 39), (88.5, 34))
    arrow((74, 44.5), (79, 54), "jobs", (-3.8, 0.6))
    arrow((88.5, 52), (88.5, 46))
    arrow((26, 20.5), (26, 13), "candidates", (0.8, 0))
    arrow((74, 20.5), (74, 13), "commits", (0.8, 0))
    arrow((57, 8), (43, 8), "feed of changes", (-6.4, 1.2))


def save(name: str, size: tuple[float, float], draw: Callable[..., None], *arguments: Any) -> None:
    """Write one picture."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, facecolor="white", layout=None)
        draw(*arguments, figure)
        figure.savefig(TARGET / name, format="svg", bbox_inches="tight", pad_inches=0.2, metadata={"Date": None})


def main(arguments: Sequence[str]) -> None:
    """Draw what there are figures for."""
    TARGET.mkdir(exist_ok=True)
    save("architecture.svg", (10, 6.2), draw_architecture)
    if arguments:
        voices = Voices(Path(arguments[0]), Path(arguments[1]))
        save("gallery.svg", (7, 4.2), draw_gallery, voices)
        save("scores.svg", (7, 4.4), draw_scores, voices)
        save("open-set.svg", (7, 3.4), draw_open_set, voices)


if __name__ == "__main__":
    main(sys.argv[1:])
