"""Variants of a run: with the changes of the command line, or with the settings of a stored study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from nas.records import Distribution, StudyRecord, SupernetRecord
from nas.run import Run, RunError
from nas.searchers import SEARCHERS
from nas.searchers.gradient.config import GradientConfig
from nas.searchers.gradient.front import FrontConfig, with_loop
from nas.searchers.spelled import spell
from search_spaces.narrowing import Closed
from supernets.training import TrainingConfig


def changed(
    run: Run,
    *,
    strategy: str = "",
    sharing: str = "",
    name: str = "",
    searcher: str = "",
    gradient: str = "",
    seed: int | None = None,
    limits: Sequence[str] = (),
) -> Run:
    """Return the run with another strategy, sharing, name, searcher, gradient method or seed, and further limits.

    Another searcher drops the gradient method of the run.
    """
    training = replace(run.training, strategy=strategy) if strategy else run.training
    training = training if seed is None else replace(training, seed=seed)
    kept = run.gradient if searcher in ("", run.searcher) else ""
    return replace(
        run,
        training=training,
        sharing=sharing or run.sharing,
        name=name or run.name,
        searcher=searcher or run.searcher,
        gradient=gradient or kept,
        seed=run.seed if seed is None else seed,
        limits=(*run.limits, *limits),
    )


def as_trained(
    run: Run, study: StudyRecord, supernet: SupernetRecord | None, distributions: Sequence[Distribution] = ()
) -> Run:
    """Return the run with the settings with which a study was started, overriding later changes to file or flags.

    Args:
        supernet: None if the study has none.
        distributions: those learned for the study.

    Raises:
        RunError: the run file now has another space.
    """
    run = replace(run, closed=tuple(map(Closed.stored, study.settings.get("closed", ()))))
    if run.searched.digest != study.space_digest:
        raise RunError(
            f"the run file now has another space than study {study.name!r} was searched in: bring back the file it was "
            "started with"
        )
    return replace(
        run,
        name=study.name,
        sharing=supernet.sharing if supernet else run.sharing,
        training=_training(supernet) if supernet else run.training,
        searcher=_searcher(study),
        limits=study.limits,
        targets=tuple(_spelled_target(name, own) for name, own in study.settings.get("targets", {}).items()),
        first=tuple(study.settings.get("first", ())),
        gradient=distributions[0].method if distributions else "",
        gradient_search=_as_learnt(run.gradient_settings, distributions) if distributions else run.gradient_search,
    )


def _spelled_target(name: str, limits: Sequence[str]) -> str:
    return " ".join([name, *(limit.partition(" ")[2] for limit in limits)])


def _training(supernet: SupernetRecord) -> TrainingConfig:
    names = {setting.name for setting in fields(TrainingConfig)}
    settings = {name: value for name, value in supernet.settings.items() if name in names}
    settings |= {"clip": math.inf} if settings.get("clip", 0.0) is None else {}  # JSON has none
    return TrainingConfig(**settings)


def _searcher(study: StudyRecord) -> str:
    """Return the searcher of a study as the text of a run."""
    return spell(study.searcher, SEARCHERS[study.searcher], study.settings)


def _as_learnt(
    config: GradientConfig | FrontConfig, distributions: Sequence[Distribution]
) -> GradientConfig | FrontConfig:
    """Return the settings with which distributions were learned."""
    names = {setting.name for setting in fields(GradientConfig)}
    settings: dict[str, Any] = {name: value for name, value in distributions[0].settings.items() if name in names}
    settings |= {name: math.inf for name, value in settings.items() if value == "inf"}
    return with_loop(config, **settings)
