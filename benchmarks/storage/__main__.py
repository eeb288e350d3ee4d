"""The command of the benchmark; see its package."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import storage
from benchmarks.rows import append_line, lines
from benchmarks.storage import report
from benchmarks.storage.parts import PARTS, measured

RESULTS = Path(__file__).parents[1] / "results" / "storage.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.storage", description=(storage.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=20, help="in which all contenders take turns")
    parser.add_argument(
        "--directory", type=Path, help="where SQLite's databases lie; the system's temporary folder if absent"
    )
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there is: {', '.join(PARTS)}")
    rows = RESULTS.with_suffix(".jsonl")
    for part in given.parts or PARTS:
        append_line(rows, measured(part, given.rounds, given.directory))
    RESULTS.write_text(report.text({row["part"]: row for row in lines(rows)}), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
