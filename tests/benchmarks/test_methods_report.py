"""The page of methods: medians of the last values, and what each file says of its claim."""

from pathlib import Path

import pytest

from benchmarks import rows
from benchmarks.methods import report


def test_a_page_has_the_last_value_of_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROWS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    for seed, value in ((0, 9.0), (1, 2.0), (2, 3.0), (0, 1.0)):
        report.put("masks", "a half", "one", "error, %", seed, value)
    report.main()
    page = report.PAGE.read_text(encoding="utf-8")
    assert "| a half | one | 3 | 2 [1.5, 2.5] |" in page and "Claimed (CoFi" in page


def test_what_is_stored_is_what_the_page_shows() -> None:
    held = rows.lines(report.ROWS)
    page = report.PAGE.read_text(encoding="utf-8")
    assert {row["method"] for row in held} >= {"learning_rates", "masks"}
    for method in {row["method"] for row in held}:
        assert report.section(method, [row for row in held if row["method"] == method]) in page
