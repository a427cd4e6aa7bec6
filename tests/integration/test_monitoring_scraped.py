"""Every series that alerts and dashboard ask for comes out of a service that was used, with the labels they name."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from indexer.settings import load_settings
from tests.api_kit import serving, wav
from tests.unit.test_monitoring import SCRAPED, expressions, wrong

GALLERY = "/v1/galleries/calls"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Labels by the name of a series, as Prometheus is sent them by a service that took an archive in and was asked."""
    archive = tmp_path_factory.mktemp("archive")
    (archive / "one.wav").write_bytes(wav(3, 1))
    (archive / "torn.wav").write_bytes(b"RIFF and no audio at all")
    with serving(load_settings(home=tmp_path_factory.mktemp("home"), database={})) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        file = {"file": ("who.wav", wav(3, 2))}
        assert client.post(f"{GALLERY}/speakers/Ann/enrollments", files=file).status_code == 201
        job = client.post(f"{GALLERY}/jobs", json={"source": str(archive)}).json()["id"]
        client.get(f"/v1/jobs/{job}/events")  # Ends with the job.
        for asked in ("identify", "search"):
            assert client.post(f"{GALLERY}/{asked}", files=file).status_code == 200
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, set[str]] = {"up": set()}  # Prometheus adds that one itself.
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_an_expression_finds_its_series_in_a_real_scrape(
    title: str, expression: str, scraped: dict[str, set[str]]
) -> None:
    assert wrong(expression, scraped) == [], title


def test_a_label_that_is_not_sent_is_noticed(scraped: dict[str, set[str]]) -> None:
    assert wrong('rate(voxdex_files_total{fate="done"}[5m])', scraped) == ["fate"]
    assert not {label for labels in scraped.values() for label in labels} & SCRAPED


def test_the_dashboard_is_asked_about(scraped: dict[str, set[str]]) -> None:
    asked = {name for _, expression in expressions() for name in re.findall(r"voxdex_\w+", expression)}
    assert len(asked) > 10
    assert asked <= set(scraped)
