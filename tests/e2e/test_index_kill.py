"""An index outlives the processes that change, save and rebuild it: a short form of `tests.reports.index_kill`."""

from tests.reports.index_kill import DOINGS, parse, run


def test_an_index_whose_processes_are_killed_holds_the_rows_of_the_record_after_each() -> None:
    report = run(parse(["--kills", "3", "--vectors", "6000", "--compress-above", "5000", "--seed", "20261123"]))
    assert report["wrong"] == [], report
    assert report["vectors_acknowledged"] > 6000, "nothing was added"
    assert set(report["killed_in"]) & set(DOINGS), "no process was killed at work"
