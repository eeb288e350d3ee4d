"""SIGKILL of searches again and again, in all phases and on every executor, and a table of what came of it.

    python -m tests.faults.many_kills [--kills 500] [--rows FILE] [--searches whole here process ray]

Two searches are started, killed and started again until they are finished; then the next ones. `whole` is `nas search`,
in process: it trains, evaluates 30 networks, trains three alone for its trust report and verifies its front. The others
evaluate 32 architectures `here`, on two processes and on two Ray actors: executors matter in that phase alone. Half of
the kills come at a named kill point that is drawn among those still to come, half at a random moment. Each start is a
line of JSON: stopped and called again, the script goes on counting. Looked at are, after each kill, what the database
holds, which evaluations were begun and which processes are left; and at the end of each search all that it has found,
against that of one never stopped.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import append_line, lines
from nas.execution.cluster.watchdog import Family
from nas.storage import Repository
from tests.faults import fault_search
from tests.faults.fault_search import MARK, command_of
from tests.nas.tiny_slowed import found, slowed

ROWS = Path(__file__).parents[2] / "benchmarks" / "results" / "kills.jsonl"
LEFT_S = 30.0
"""How long processes of a killed search may take to end."""
NEXT = 6
"""A named kill point is at most the so many-th event of its kind that is to come."""


# --- what is searched ----------------------------------------------------------------------------------------------


class Search(ABC):
    """A search that may be killed: its process, and what it leaves in its folder."""

    longest_s: float
    """A random moment is at most so long after the start."""
    share: float
    """Of all kills."""

    @abstractmethod
    def run(self, folder: Path) -> None:
        """Within its own process."""

    @abstractmethod
    def stored(self, folder: Path) -> dict[str, Any]:
        """What the database holds of each evaluated architecture, by digest."""

    @abstractmethod
    def begun(self, folder: Path) -> list[str]:
        """Digests in the order in which evaluations began."""

    @abstractmethod
    def to_come(self, folder: Path) -> dict[str, int]:
        """How many events of each kind are still to come."""

    @abstractmethod
    def phase(self, folder: Path) -> str:
        """What it was at when it ended."""

    @abstractmethod
    def found(self, folder: Path) -> Any:
        """All that it ends with and that does not depend on the speed of the machine."""

    def warm_up(self) -> None:  # noqa: B027 - there need not be anything to import
        """Imports what it needs, for its processes to share."""


# What the run does is written down in a file beside it.
EVENTS = """
import sys
from pathlib import Path
def hook(event, arguments, file=Path(__file__).with_name("events").open("a", buffering=1)):
    if event.startswith("nas."):
        file.write(f"{event} {arguments[0]}\\n")
sys.addaudithook(hook)
"""


class Whole(Search):
    """`nas search` of the tiny run, slowed."""

    longest_s, share = 8.0, 0.4
    name, evaluations, judged = "tiny", 30, 6

    def run(self, folder: Path) -> None:
        from nas.commands.app import main

        if not (folder / "variant_run.py").exists():
            slowed(folder, batch_s=0.01, evaluate_s=0.04, before=EVENTS)
        os.chdir(folder)
        sys.argv = ["nas", "--quiet", "search", "variant_run.py"]
        main()

    def stored(self, folder: Path) -> dict[str, Any]:
        try:
            with self._opened(folder) as repository:
                there = self.name in repository.num_evaluations()
                found = repository.evaluations(self.name) if there else []
        except Exception:  # it was killed before it had made its tables
            return {}
        return {e.arch.digest: (e.metrics, e.error, e.seconds) for e in found}

    def begun(self, folder: Path) -> list[str]:
        return [subject for event, subject in self._events(folder) if event == "nas.evaluating"]

    def to_come(self, folder: Path) -> dict[str, int]:
        done = Counter(event for event, _ in self._events(folder))
        evaluations = self.evaluations - len(self.stored(folder))
        return {
            "os.rename": 0 if done["nas.trained"] else 8,  # checkpoints
            "nas.trained": int(not done["nas.trained"]),
            "nas.evaluating": evaluations,
            "nas.evaluated": evaluations,
            "nas.judged": self.judged - done["nas.judged"],
            "nas.verified": NEXT,
        }

    def phase(self, folder: Path) -> str:
        seen = {event for event, _ in self._events(folder)}
        if "nas.verified" in seen:
            return "verifying"
        if "nas.judged" in seen or len(self.stored(folder)) == self.evaluations:
            return "judging"
        return "searching" if "nas.trained" in seen else "training"

    def found(self, folder: Path) -> Any:
        with self._opened(folder) as repository:
            return found(repository)

    def warm_up(self) -> None:
        import nas.commands.app
        import nas.commands.session
        import nas.stages.search
        import nas.stages.workflow  # noqa: F401
        from nas.stages.evaluators import untrained
        from tests.nas.tiny_run import run

        untrained(run).profiles(run.task.example(), sample=1)  # for which torch imports much

    def _opened(self, folder: Path) -> Repository:
        return Repository(f"sqlite:///{folder / 'nas.db'}", read_only=True)

    def _events(self, folder: Path) -> list[list[str]]:
        """Kind and subject of all that was done, in order."""
        path = folder / "events"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class Evaluations(Search):
    """The search of `fault_search` on an executor."""

    kind: str
    longest_s: float
    share: float

    def run(self, folder: Path) -> None:
        fault_search.main(folder, self.kind)

    def stored(self, folder: Path) -> dict[str, Any]:
        return {digest: tuple(rest) for digest, *rest in fault_search.stored(folder)}

    def begun(self, folder: Path) -> list[str]:
        return fault_search.evaluated(folder)

    def to_come(self, folder: Path) -> dict[str, int]:
        return dict.fromkeys(
            ("nas.evaluating", "nas.evaluated"), fault_search.EVALUATIONS - len(fault_search.stored(folder))
        )

    def phase(self, folder: Path) -> str:
        return "searching" if self.begun(folder) else "starting"

    def found(self, folder: Path) -> Any:
        return fault_search.front(folder)


SEARCHES: dict[str, Search] = {
    "whole": Whole(),
    "here": Evaluations("here", 2.0, 0.2),
    "process": Evaluations("process", 20.0, 0.25),
    "ray": Evaluations("ray", 60.0, 0.15),
}


# --- a search in a process of its own ------------------------------------------------------------------------------


def forked(folder: Path, work: Callable[[Path], None], mark: str, at: str) -> int:
    """Does the work in another process, and returns its number. It and its children carry the mark.

    It is a fork of this process, which has imported all that it needs: starting Python would take longer than what is
    to be killed.
    """
    sys.stdout.flush()
    if process := os.fork():
        return process
    status = 1
    try:
        with (folder / "log").open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ |= {MARK: mark} | ({"NAS_KILL_AT": at} if at else {})
        work(folder)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(process: int, within_s: float, family: Family) -> int:
    """The status of the process once it has ended, or is killed because it has not within the time.

    Its family is looked at meanwhile, about every half second.
    """
    until, looks = time.monotonic() + within_s, 0.0
    while (now := time.monotonic()) < until:
        if now >= looks:
            family.look()
            looks = now + 0.5
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def left(family: Family) -> tuple[list[str], float]:
    """Commands of the processes that are there still after `LEFT_S`, and how long the last of them took to end."""
    began = time.monotonic()
    while there := family.look():
        if time.monotonic() - began > LEFT_S:
            return [command_of(process).strip() for process in there], LEFT_S
        time.sleep(0.05)
    return [], time.monotonic() - began


# --- kills ---------------------------------------------------------------------------------------------------------


def kill_point(search: Search, folder: Path, rng: random.Random) -> str:
    """A named one among those that are still to come."""
    to_come = {event: number for event, number in search.to_come(folder).items() if number > 0}
    event = rng.choice(list(to_come))
    return f"{event}:{rng.randint(1, min(to_come[event], NEXT))}"


def started(name: str, folder: Path, rng: random.Random) -> dict[str, Any]:
    """One start of a search, which is killed or finishes, as a row."""
    search = SEARCHES[name]
    before, begun, mark = search.stored(folder), len(search.begun(folder)), uuid.uuid4().hex
    at = kill_point(search, folder, rng) if rng.random() < 0.5 else ""
    moment = rng.uniform(0.05, search.longest_s)
    began = time.monotonic()
    family = Family(f"{MARK}={mark}")
    status = ended(forked(folder, search.run, mark, at), 600.0 if at else moment, family)
    seconds = time.monotonic() - began
    processes, lingered_s = left(family)
    after, again = search.stored(folder), search.begun(folder)[begun:]
    return {
        "search": name,
        "how": at or f"after {moment:.2f} s",
        "phase": search.phase(folder),
        "seconds": round(seconds, 2),
        "killed": status == -signal.SIGKILL,
        "failed": "" if status in (0, -signal.SIGKILL) else (folder / "log").read_text(errors="replace")[-400:],
        "lost": sum(after.get(digest) != value for digest, value in before.items()),
        "twice": sum(digest in before for digest in again),
        "left": processes,
        "lingered_s": round(lingered_s, 2),
        "identical": None,
    }


def rows_of_a_search(name: str, folder: Path, expected: Any, rng: random.Random) -> Iterator[dict[str, Any]]:
    """All starts of one search until it is finished."""
    while True:
        row = started(name, folder, rng)
        over = not row["killed"]
        if over and not row["failed"]:
            row["identical"] = SEARCHES[name].found(folder) == expected
        yield row
        if over:
            return


def never_stopped(name: str) -> Any:
    """What a search finds; that of `fault_search` in process, which all executors must find too."""
    search = SEARCHES["whole" if name == "whole" else "here"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        assert ended(forked(folder, search.run, "none", ""), 600.0, Family("none")) == 0, (folder / "log").read_text()
        return search.found(folder)


def kill(number: int, rows: Path, names: Sequence[str], place: Path | None = None) -> None:
    """Makes so many kills in all, those of the rows that are there among them; each start adds a row.

    Args:
        place: where the searches' folders lie; one whose search went wrong is kept.
    """
    for name in names:
        SEARCHES[name].warm_up()
    expected: dict[str, Any] = {}
    total = sum(SEARCHES[name].share for name in names)
    while True:
        kills = Counter(row["search"] for row in lines(rows) if row["killed"])
        missing = {name: number * SEARCHES[name].share / total - kills[name] for name in names}
        name = max(missing, key=lambda one: missing[one] / SEARCHES[one].share)
        if missing[name] <= 0:
            return
        if name not in expected:
            expected[name] = never_stopped(name)
        seed = random.SystemRandom().randrange(2**32)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place))
        wrong = False
        for row in rows_of_a_search(name, folder, expected[name], random.Random(seed)):
            append_line(rows, row | {"seed": seed})
            wrong |= went_wrong(row)
        if not wrong:
            shutil.rmtree(folder)


def went_wrong(row: Mapping[str, Any]) -> bool:
    return bool(row["failed"] or row["lost"] or row["twice"] or row["left"] or row["identical"] is False)


# --- what came of it -----------------------------------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """By search and phase, as Markdown."""
    head = ("search", "killed while", "kills", "lost", "twice", "processes left", "slowest to end, s")
    out = ["| " + " | ".join(head) + " |", "|---|---|--:|--:|--:|--:|--:|"]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    kills = [row for row in rows if row["killed"]]
    for row in kills:
        groups.setdefault((row["search"], row["phase"]), []).append(row)
    for (search, phase), group in [*sorted(groups.items()), (("all", ""), kills)]:
        lost, twice = (sum(row[what] for row in group) for what in ("lost", "twice"))
        there = sum(len(row["left"]) for row in group)
        slowest = max((row["lingered_s"] for row in group), default=0.0)
        out.append(f"| {search} | {phase} | {len(group)} | {lost} | {twice} | {there} | {slowest:.1f} |")
    over = [row for row in rows if not row["killed"]]
    same, failed = sum(row["identical"] is True for row in over), sum(bool(row["failed"]) for row in over)
    return "\n".join([*out, "", f"{len(over)} searches ended: {same} as one never stopped, {failed} with an error."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--place", type=Path, help="where the searches' folders lie; the temporary folder if left out")
    arguments = parser.parse_args()
    kill(arguments.kills, arguments.rows, arguments.searches, arguments.place)
    print(table(lines(arguments.rows)))


if __name__ == "__main__":
    main()
