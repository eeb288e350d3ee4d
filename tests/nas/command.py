"""The command line called as from a shell, but in this process; and run files made of the tiny one."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nas.commands import display
from nas.commands.app import main
from nas.targets import TARGETS, CPUTarget

TINY = Path(__file__).with_name("tiny_run.py")


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Nas = Callable[..., Answer]
"""`nas("front", "tiny")`: what the command printed, and its exit status."""


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    monkeypatch.delenv("COLUMNS", raising=False)  # a terminal's width, which would fold tables
    monkeypatch.setitem(TARGETS, "cpu", CPUTarget)  # which a `variant` replaces where it is loaded

    monkeypatch.setattr("nas.commands.display.terminal._verbose", False)  # as in a process of its own

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        capsys.readouterr()
        display.set_verbose(False)  # as in a process of its own
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        return Answer(status, *capsys.readouterr())

    return call


def variant(folder: Path, changes: str, before: str = "", name: str = "variant_run.py") -> Path:
    """A run file: the tiny run with `changes`, such as "name='other', batch=3"."""
    path = folder / name
    path.write_text(
        "from dataclasses import replace\nfrom functools import partial\n"
        "from nas.targets import TARGETS, CPUTarget\nimport tests.nas.tiny_run as tiny\n"
        "TARGETS['cpu'] = partial(CPUTarget, budget_s=0.02, warmup=1)\n"
        f"{before}\nrun = replace(tiny.run, {changes})\n"
    )
    return path
