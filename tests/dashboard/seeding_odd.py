"""Studies that a dashboard must not trip over: hostile names, no limit, limits nothing keeps, many objectives.

Run as a script to have them to browse: `python -m tests.dashboard.seeding_odd sqlite:///odd.db`.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.records import Evaluation, SpaceRecord, StudyRecord, TargetRecord
from nas.storage import Repository
from search_spaces import Space
from tests.dashboard.seeding import ConvSpace, synthetic_metrics

MARKDOWN = "*md* :red[x] $x^2$ [l](http://e.com) :smile:"
HTML = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
SQL = "'; DROP TABLE studies; --"
LONG = "long " + "x" * 9_995
RIGHT_TO_LEFT = "חיפוש ארכיטקטורה 12"
EMOJI = "🔬 search 😀"
HOSTILE = (MARKDOWN, HTML, SQL, LONG, RIGHT_TO_LEFT, EMOJI)
SIX = ("error", "latency_ms@cpu", "params", "macs", "latency_ms@pi5", "energy_mj@pi5")
ERROR = "<b>bold</b> latency <= 9 is *not* met\nat line 2"


def seed_odd(url: str, n: int = 60) -> None:
    """Fill a database with them, each of `n` evaluations."""
    space = ConvSpace()
    with Repository(url) as repository:
        repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
        for name in ("cpu", "pi5"):
            repository.add_target(TargetRecord(name, "cpu", {"processor": HTML if name == "pi5" else "fast"}))
        for place, name in enumerate(HOSTILE):
            add(repository, space, name, n, seed=place)
        add(repository, space, "broken limit", n, limits=("latency_ms@cpu <= soon",))
        add(repository, space, "nothing keeps", n, limits=("params <= 10",))
        add(repository, space, "six objectives", 2 * n, objectives=SIX)
        add(repository, space, "one objective", n, objectives=("error",), only=("error",))
        targets = {"cpu": ["latency_ms@cpu <= 9"], "pi5": []}
        names = ("error", "latency_ms@cpu", "latency_ms@pi5")
        add(repository, space, "two targets", n, objectives=names, settings={"targets": targets})
        add(repository, space, "nothing yet", 0)


def add(
    repository: Repository,
    space: Space,
    name: str,
    n: int,
    *,
    objectives: tuple[str, ...] = ("error", "latency_ms@cpu"),
    limits: tuple[str, ...] = (),
    only: tuple[str, ...] = SIX,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """One finished study of random networks, the last of which fails."""
    rng = np.random.default_rng(seed)
    record = StudyRecord(
        name, space.digest, None, objectives, limits, "random", seed, dict(settings or {}), status="finished"
    )
    repository.create_study(record)
    archs = space.sample_many(n, rng, distinct=True) if n else []
    found = []
    for arch in archs[:-1]:
        values = synthetic_metrics(arch, rng)
        slow = values["latency_ms@cpu"] * float(rng.uniform(4, 12))
        values |= {"latency_ms@pi5": slow, "energy_mj@pi5": slow * float(rng.uniform(1, 3))}
        found.append(Evaluation(arch, {key: values[key] for key in only}, seconds=0.5, worker=HTML))
    failed = [Evaluation(arch, {}, ERROR) for arch in archs[-1:]]
    repository.append_evaluations(name, [*found, *failed], f"none {name[:20]}", "odd")


if __name__ == "__main__":
    seed_odd(sys.argv[1])
