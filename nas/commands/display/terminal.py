"""The terminal: sentences and tables on stdout, bars and errors on stderr, and what --quiet and --verbose change."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape as without_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nas.progress import Tick, silent

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)
_verbose = False
DIGEST = 8  # characters of a digest that tell architectures apart for people
_WIDE = 10_000  # characters of a line that nobody's window bounds


def escape(text: str) -> str:
    """A text as it stands: nothing in it is markup, and no character of it is obeyed by a terminal.

    Names and notes come from files and databases, which anything may have written.
    """
    return without_markup(plain(text))


def plain(text: str) -> str:
    """A text whose unprintable characters are spelled, as in \\x1b, but for ends of lines and tabs."""
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def set_quiet(quiet: bool) -> None:
    """Results and errors only."""
    _err.quiet = quiet


def quiet() -> bool:
    return _err.quiet


def set_verbose(verbose: bool) -> None:
    """All there is to tell."""
    global _verbose
    _verbose = verbose


def verbose() -> bool:
    return _verbose


def results(texts: Sequence[str]) -> None:
    """What came of it, also where it is quiet."""
    for text in texts:
        _out.print(escape(text), soft_wrap=True)


def say(text: str) -> None:
    """A sentence about what was done or comes next."""
    if not quiet():
        _out.print(escape(text), soft_wrap=True)


def headline(text: str) -> None:
    if not quiet():
        _out.print(f"\n[bold]{escape(text)}[/bold]", soft_wrap=True)


def titled(title: str, text: str) -> None:
    """A title, and in the same line what it is about; also if --quiet."""
    _out.print(f"[bold]{escape(title)}[/bold], {escape(text)}", soft_wrap=True)


def error(text: str) -> None:
    sys.stderr.write(f"error: {plain(' '.join(text.split()))}\n")


def stopping() -> None:
    """After the first Ctrl-C of a search."""
    sys.stderr.write("stopping: what is being evaluated is finished first; Ctrl-C again stops at once\n")


def stopped() -> None:
    """After Ctrl-C."""
    sys.stderr.write("stopped: the same command goes on from here\n")


@contextmanager
def bar(title: str) -> Iterator[Tick]:
    """A bar with rate and time left on a terminal; elsewhere a line every half minute; nothing where it is quiet."""
    if quiet():
        yield silent
    elif not _err.is_terminal:
        yield log_lines(title)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=_err) as progress:
            task = progress.add_task(escape(title), total=None, rate="")

            def tick(done: int, total: int) -> None:
                speed = progress.tasks[0].speed
                progress.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

            yield tick


def log_lines(title: str, every_s: float = 30.0) -> Tick:
    """Progress for a log. The rate is that of this call: what was found done does not count."""
    begin: tuple[float, int] | None = None
    last = time.monotonic()

    def tick(done: int, total: int) -> None:
        nonlocal begin, last
        now = time.monotonic()
        if begin is None:
            begin = now, done
        if done < total and now - last >= every_s:
            last = now
            rate = (done - begin[1]) / max(now - begin[0], 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if rate else ""
            sys.stderr.write(f"{title}: {done} of {total}, {rate:.2g}/s{left}\n")

    return tick


def table_of(*columns: str, header: bool = True, numbers: bool = False) -> Table:
    """Without lines; a text that is too long for the terminal goes on below, never cut."""
    table = Table(box=None, show_header=header, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(escape(name), justify="right" if numbers and index else "left", overflow="fold")
    return table


def show(table: Table) -> None:
    """As wide as the terminal; in a pipe or a file as wide as it needs to be, without spaces at the end of lines."""
    if _out.is_terminal or "COLUMNS" in os.environ:
        _out.print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_WIDE, highlight=False).print(table)  # whose width is 80 in a pipe, whatever print is told
    _out.file.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def warn(text: str) -> None:
    _out.print(f"[bold yellow]{escape(text)}[/]", soft_wrap=True)


def shown(value: object) -> str:
    """A value of a table's cell; None is a dash."""
    return "-" if value is None else str(value)
