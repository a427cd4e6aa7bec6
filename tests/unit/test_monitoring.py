"""Alert rules and dashboard use metrics and labels that the code exports, in expressions that are whole."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric

from api.readiness import Scrape
from indexer.errors import Unavailable

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"

SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds itself."""

FUNCTIONS = set(
    "sum max rate increase histogram_quantile vector by and or humanizeDuration humanizePercentage".split()  # noqa: SIM905
)


class Live:
    """Open galleries, none of which can be asked."""

    def lag(self) -> list[Any]:
        raise Unavailable("the record is away")


class Runtime:
    """As much of a running service as its metrics read."""

    live = Live()

    def queue_depths(self) -> dict[str, int]:
        return {"ingest": 0}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Labels by the name of a series."""
    found: dict[str, set[str]] = {"up": set()}
    for metric in Scrape(Runtime()).collect():  # type: ignore[arg-type]
        labels = {"gallery_id"} if metric.name.startswith("voxdex_index_") else labels_of(metric)
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        for ending in endings:
            found[metric.name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    return found


def labels_of(metric: Metric) -> set[str]:
    """Return the labels of a metric, counted yet or not."""
    from indexer import observability

    for collector in vars(observability).values():
        if getattr(collector, "_name", None) == metric.name:
            return set(collector._labelnames)
    return {name for sample in metric.samples for name in sample.labels} - {"le"}


def expressions() -> Iterator[tuple[str, str]]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_an_expression_names_what_is_exported(title: str, expression: str, exported: dict[str, set[str]]) -> None:
    assert wrong(expression, exported) == [], title


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(voxdex_file_total[5m])", "voxdex_file_total"),
        ('voxdex_queue_depth{name="ingest"}', "name"),
        ("sum by (gallery) (voxdex_index_vectors)", "gallery"),
        ("sum(rate(voxdex_files_total[5m])", "brackets"),
    ],
)
def test_an_expression_that_would_find_nothing_is_found(
    expression: str, fault: str, exported: dict[str, set[str]]
) -> None:
    assert fault in wrong(expression, exported)


def test_every_alert_is_explained_on_the_page() -> None:
    page = (MONITORING.parent / "monitoring.md").read_text(encoding="utf-8")
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules if f"| `{rule['alert']}` |" not in page] == []
    assert all(
        rule["annotations"]["summary"] and rule["labels"]["severity"] in ("warning", "critical") for rule in rules
    )


def test_panels_lie_side_by_side() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_metric_of_the_page_is_exported(exported: dict[str, set[str]]) -> None:
    page = (MONITORING.parent / "observability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(voxdex_[a-z_]+)", page))
    series = set(exported) | {name.removesuffix("_bucket") for name in exported}
    assert named - series == set()


def wrong(expression: str, exported: dict[str, set[str]]) -> list[str]:
    """Return the names in an expression that nothing exports, and "brackets" where they do not match."""
    faults = []
    if any(expression.count(opening) != expression.count(closing) for opening, closing in ("()", "[]", "{}")):
        faults.append("brackets")
    used: set[str] = set()
    for name, selector in re.findall(
        r"\b([a-z_]+[a-z])\b(?:\{([^}]*)\})?(?=[\[\s)]|$)", re.sub(r"by \([^)]*\)", "", expression)
    ):
        if name in FUNCTIONS:
            continue
        if name not in exported:
            faults.append(name)
            continue
        used |= exported[name]
        faults += [label for label in re.findall(r"(\w+)\s*[=!]", selector) if label not in exported[name] | SCRAPED]
    grouped = {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", labels)}
    return faults + sorted(grouped - used - SCRAPED)
