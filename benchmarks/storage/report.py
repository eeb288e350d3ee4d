"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from benchmarks.report import markdown
from benchmarks.storage.contenders import ADD_TRIAL, AS_IT_COMES, ASK_AND_TELL, BATCH, HUNDREDS, OURS
from benchmarks.storage.writers import WRITERS

Row = Mapping[str, Any]
_LEVELS = {
    ("SQLite", True): "WAL, synchronous=FULL",
    ("SQLite", False): "WAL, synchronous=NORMAL",
    ("PostgreSQL", True): "as installed",
    ("PostgreSQL", False): "synchronous_commit=off",
}


def text(parts: Mapping[str, Row]) -> str:
    """The report of the parts that there are."""
    sections = {"alone": _alone, "schema": _schema, "writers": _writers}
    found = [
        section(parts[name]["rows"]) + _machine(parts[name]) for name, section in sections.items() if name in parts
    ]
    return "\n".join(["# What storing an evaluation costs", "", *(line for part in found for line in part)])


def _machine(part: Row) -> list[str]:
    return [f"*{part['machine']}; {part['rounds']} rounds in {part['took_s']} s.*", ""]


# --- one process


def _alone(rows: Sequence[Row]) -> list[str]:
    by = {(row["database"], row["waits"], row["way"]): row["ms"] for row in rows}
    plain = by.pop(("SQLite", True, AS_IT_COMES))
    lines = [
        *_headline(by),
        "",
        "## Beside Optuna's RDBStorage, at equal durability",
        "",
        "All take turns in every round; a ratio is that of one round, given as median and quartiles over the rounds.",
        "*Waits*: a commit returns when it is on the disk and survives a power cut. *Goes on*: it survives the death",
        "of the process, and a power cut may take back the last ones. Ours goes on by default, as a search evaluates",
        "again what is lost; Optuna waits, and was told not to where it goes on. Its journal is a write-ahead log here",
        "as ours is. Optuna has no batches: `add_trials` calls `add_trial` for one after the other.",
        "",
    ]
    table = [
        [database, _waiting(waits), _LEVELS[database, waits], way, _ms(ms), *_against(by, database, waits, way)]
        for (database, waits, way), ms in by.items()
    ]
    waits_plain = ["SQLite", _waiting(True), "rollback journal, FULL: as Optuna comes", ASK_AND_TELL, _ms(plain)]
    table.append([*waits_plain, _ratio(plain, by["SQLite", True, OURS]), _ratio(plain, by["SQLite", True, HUNDREDS])])
    header = [
        "database",
        "commit",
        "setting",
        "way",
        "ms an evaluation",
        "times ours, one a commit",
        f"ours, {BATCH} a commit",
    ]
    return [*lines, markdown(header, table)]


def _headline(by: Mapping[tuple[str, bool, str], Sequence[float]]) -> list[str]:
    lines = []
    for waits, what in ((True, "When both wait for the disk"), (False, "When neither waits")):
        ours = by["SQLite", waits, OURS]
        told = [
            f"{_ratio(by['SQLite', waits, way], ours)} times that of Optuna's {name}"
            for way, name in ((ASK_AND_TELL, "ask and tell"), (ADD_TRIAL, "`add_trial`"))
        ]
        lines.append(
            f"{what}, an evaluation alone takes {median(ours):.2f} ms on SQLite; the rate is {' and '.join(told)}. In"
            f" batches of {BATCH}, which Optuna lacks, it takes {median(by['SQLite', waits, HUNDREDS]):.3f} ms."
        )
    return lines


def _against(by: Mapping[tuple[str, bool, str], Sequence[float]], database: str, waits: bool, way: str) -> list[str]:
    if way in (OURS, HUNDREDS):
        return ["", ""]
    return [_ratio(by[database, waits, way], by[database, waits, base]) for base in (OURS, HUNDREDS)]


# --- the schema


def _schema(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## What the schema costs",
        "",
        "SQLite, each in a commit of its own. A bare row is the same content in one table without an index: what any",
        "durable commit costs here. Beside it, an evaluation has its architecture stored once, digests of it and of",
        "itself, its position and its time, and the driver's lease is looked at. As in a search: with the origin of",
        "the architecture, the lease held.",
        "",
    ]
    bare = {row["waits"]: row["ms"] for row in rows if row["way"] == "a bare row"}
    table = [[_waiting(r["waits"]), r["way"], _ms(r["ms"]), _ratio(r["ms"], bare[r["waits"]])] for r in rows]
    return [*lines, markdown(["commit", "what", "ms", "times a bare row"], table)]


# --- several processes


def _writers(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## Eight processes at once",
        "",
        f"Each writes {rows[0]['count'] // WRITERS:,} evaluations, one a commit, as fast as it can, to a study of its",
        "own that it drives; all begin together. Milliseconds within which so many of 100 commits were done, from the",
        "call to its return. Errors are what a process wrote to its standard error, and its status. What was tried for",
        "the slowest: [Turns of writers](../../docs/decisions/turns-of-writers.md).",
        "",
    ]
    shares = ("p50", "p90", "p99", "p99.9", "p100")
    table = [
        [
            row["database"],
            _waiting(row["waits"]),
            f"{row['rate']:,.0f}",
            *(f"{row[share]:.1f}" for share in shares),
            str(len(row["errors"])),
        ]
        for row in sorted(rows, key=lambda row: (row["database"] != "SQLite", not row["waits"]))
    ]
    return [*lines, markdown(["database", "commit", "evaluations/s", "50", "90", "99", "99.9", "all", "errors"], table)]


# --- cells


def _waiting(waits: bool) -> str:
    return "waits" if waits else "goes on"


def _ms(took: Sequence[float]) -> str:
    low, _, high = quantiles(took, n=4)
    return f"{median(took):.3f} ({low:.3f} to {high:.3f})"


def _ratio(slower: Sequence[float], base: Sequence[float]) -> str:
    """Of the same rounds."""
    ratios = [a / b for a, b in zip(slower, base, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    digits = 0 if median(ratios) >= 20 else 1
    return f"{median(ratios):,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"
