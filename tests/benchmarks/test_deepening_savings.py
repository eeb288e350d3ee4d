"""The benchmark of raised budgets runs, and says what it must."""

from pathlib import Path

from benchmarks import deepening


def test_it_writes_a_row_for_each_way(tmp_path: Path) -> None:
    out = tmp_path / "deepening.md"
    deepening.main(["--seeds", "2", "--out", str(out)])
    rows = [line for line in out.read_text().splitlines() if line.startswith("| 2 ") or line.startswith("| 3 ")]
    assert len(rows) == 12
    assert all("2 of 2" in row for row in rows if "discarding" in row)
