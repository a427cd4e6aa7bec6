"""Alert rules and dashboard use metrics and labels that the code exports, in expressions that are whole."""

import json
import re
import shutil
import subprocess
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


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    yield from ((rule["alert"], rule["expr"]) for rule in alerts())
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


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own judge of rules; Debian's package `prometheus` has it."""
    found = shutil.which("promtool")
    if found is None:  # Skipped where everything else must run, too: nothing that a lock could hold brings it.
        pytest.skip(
            "no promtool on the PATH (apt-get install prometheus brings it): rules are not judged by Prometheus"
        )
    return found


def judged(promtool: str, *asked: str | Path) -> None:
    done = subprocess.run([promtool, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_what_is_scraped(promtool: str) -> None:
    judged(promtool, "check", "rules", MONITORING / "alerts.yml")
    judged(promtool, "check", "config", MONITORING / "prometheus.yml")


def test_prometheus_raises_each_alert_when_it_is_called_for_and_none_otherwise(promtool: str) -> None:
    judged(promtool, "test", "rules", MONITORING / "alerts_test.yml")


def test_prometheus_can_read_every_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"a:b{number}", "expr": expression} for number, (_, expression) in enumerate(expressions())]
    written = tmp_path / "expressions.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}), encoding="utf-8")
    judged(promtool, "check", "rules", written)


def test_each_alert_is_tried_in_both_ways() -> None:
    """Without promtool, too: an alert that is new or renamed has its series."""
    names = {rule["alert"] for rule in alerts()}
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    tried = [one for test in tests for one in test["alert_rule_test"]]
    for raised in (True, False):
        assert {one["alertname"] for one in tried if ("exp_alerts" in one) is raised} == names


def test_every_alert_is_explained_on_the_page() -> None:
    page = (MONITORING.parent / "monitoring.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in alerts() if f"| `{rule['alert']}` |" not in page] == []
    assert all(
        rule["annotations"]["summary"] and rule["labels"]["severity"] in ("warning", "critical") for rule in alerts()
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
