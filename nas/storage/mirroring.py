"""Copies a study for Optuna's tools: each evaluation becomes a finished trial of an Optuna study of the same name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from nas.errors import NasError
from nas.logs import quiet_optuna
from nas.migrations import opening
from nas.migrations.address import cleaned
from nas.records import Evaluation, StudyRecord
from nas.storage import Repository
from search_spaces import Architecture

_POSITION = "position"
"""The attribute of a trial with the position of its evaluation."""


def mirror(source: Repository, name: str, url: str) -> int:
    """Add the missing evaluations of a study to the Optuna study of its name; return their number.

    The objectives become values and the active choices parameters. All metrics, the position, the digest, the worker
    and the error of a failure become attributes. Only one process at a time may mirror a study.

    Args:
        url: Optuna's database, created if missing; not a database of this package.

    Raises:
        NasError: the study does not exist, the database belongs to this package or cannot be opened, or its study of
            this name has other objectives.
    """
    import optuna

    record = source.study(name)
    evaluations = source.placed_evaluations(name)
    (declared,) = (space.declaration for space in source.spaces() if space.digest == record.space_digest)
    with _optunas(url) as storage:
        study = optuna.create_study(
            study_name=name, storage=storage, directions=["minimize"] * len(record.objectives), load_if_exists=True
        )
        _check_same(study, record)
        study.set_metric_names(list(record.objectives))
        there = {trial.user_attrs.get(_POSITION) for trial in study.get_trials(deepcopy=False)}
        new = [(position, one) for position, one in evaluations.items() if position not in there]
        for position, one in new:
            study.add_trial(_trial(position, one, record, declared))
    return len(new)


def _trial(position: int, one: Evaluation, record: StudyRecord, declared: Mapping[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    found = {path: (value, options) for path, value, options in _choices(declared, one.arch)}
    attributes = {_POSITION: position, "digest": one.arch.digest, "worker": one.worker, **one.metrics}
    trial = create_trial(
        state=TrialState.FAIL if one.failed else TrialState.COMPLETE,
        values=None if one.failed else [one.metrics[name] for name in record.objectives],
        params={path: value for path, (value, _) in found.items()},
        distributions={path: CategoricalDistribution(options) for path, (_, options) in found.items()},
        user_attrs=attributes | ({"failed": one.error} if one.failed else {}),
    )
    trial.datetime_complete = datetime.now()  # Optuna's times have no zone
    trial.datetime_start = trial.datetime_complete - timedelta(seconds=one.seconds)
    return trial


def _choices(declared: Mapping[str, Any], arch: Architecture, prefix: str = "") -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield path, value and options of every active choice; a nested network's name precedes its choices' paths."""
    for name, choice in declared["choices"].items():
        if name not in arch:
            continue
        value, nested = arch[name], {one["is"]: one for one in choice["options"] if isinstance(one, dict)}
        per = "per" in choice  # no positions if the depth is 0
        places = {f"{prefix}{name}.{at}": one for at, one in enumerate(value)} if per else {f"{prefix}{name}": value}
        for path, one in places.items():
            yield path, _category(one), [_category(option) for option in choice["options"]]
            if isinstance(one, Architecture):
                yield from _choices(nested[one.kind], one, f"{path}.{one.kind}.")


def _category(value: Any) -> Any:
    """Return an option as Optuna accepts it: a plain value, the name of a nested network, or JSON of a list."""
    if isinstance(value, Architecture):
        return value.kind
    if isinstance(value, dict):
        return value["is"]
    return json.dumps(value) if isinstance(value, list | tuple) else value


@contextmanager
def _optunas(url: str) -> Iterator[Any]:
    """Yield Optuna's storage at a URL; errors of Optuna and its database become NasErrors of one line."""
    import optuna

    parsed = opening.parsed(url)
    try:
        with quiet_optuna(), opening.one_line_errors(parsed):
            _refuse_ours(parsed)
            storage = optuna.storages.RDBStorage(parsed.render_as_string(hide_password=False))
            try:
                yield storage
            finally:
                storage.remove_session()
                storage.engine.dispose()
    except (optuna.exceptions.OptunaError, ImportError) as error:
        cleaned(error, parsed)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NasError(f"{opening.shown(parsed)}: {reason}; name a database of Optuna, or a new one") from error


def _refuse_ours(url: sa.URL) -> None:
    """Raise NasError for a database of this package, since Optuna's tables have the same names."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            if opening.stored_version(connection) is not None:
                raise NasError(f"{opening.shown(url)} is a database of this package; name another one for Optuna")
    finally:
        engine.dispose()


def _check_same(study: Any, record: StudyRecord) -> None:
    names = study.metric_names
    if len(study.directions) != len(record.objectives) or names not in (None, list(record.objectives)):
        given = ", ".join(names or map(str, study.directions))
        raise NasError(
            f"Optuna's study {record.name!r} minimises {given}, not {', '.join(record.objectives)}; "
            "name another database"
        )
