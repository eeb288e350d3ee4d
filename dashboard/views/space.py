"""The page of the space: importances of choices, effects of options, and combinations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import address, encoding, importance, queries, shell, text
from dashboard.closed import show_closed
from dashboard.figures import importance as figures
from dashboard.importance import Effects
from dashboard.queries import StudyView
from nas.objectives.units import metric

_MOST_LATEST = 5000  # networks that are looked at, the last ones
_MOST_METRICS = 4
_MOST_CHOICES = 6
_STEP = 64  # more networks than before, until a running study is judged anew


def show_space(shown: StudyView) -> None:
    show_closed(shown)
    rows = np.flatnonzero(~shown.table["_failed"].to_numpy(bool))
    if len(rows) < importance.FEWEST:
        count = len(rows)
        shell.note(
            f"{count:,} evaluated networks tell too little of a space; from {importance.FEWEST} on this page does."
        )
        return
    names = _pick_metrics(shown)
    if not names:
        return
    count = len(rows) // _STEP * _STEP if shown.is_running and len(rows) > _STEP else len(rows)
    tables = {name: _importances(*_identity(shown), name, count, shown) for name in names}
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Importance of each choice", anchor=False)
        shell.show_figure(figures.importance_figure(tables), "importance", "Importance of choices with intervals")
        used = min(count, importance.MOST)
        st.caption(
            f"Functional ANOVA over {used:,} of {len(rows):,} networks; bars hold the middle 90 % of what other "
            "networks would have told. A choice that matters only together with others has little by itself."
        )
    with right:
        _show_effects(shown, names, tables, count)
    _show_parallel(shown, names, tables, rows)


def _identity(shown: StudyView) -> tuple[str, str, str]:
    return st.session_state["url"], shown.study.name, shown.study.created


def _pick_metrics(shown: StudyView) -> list[str]:
    known = list(shown.metrics)
    goals = [name for name in shown.study.objectives if name in known][:_MOST_METRICS]
    asked = [name for name in address.get_all("of") if name in known]
    picked = st.pills(
        "Metrics",
        known,
        selection_mode="multi",
        default=asked or goals,
        format_func=lambda name: text.markdown(metric(name).phrase, 40),
        key=f"{shown.study.name} of",
    )
    names = [str(name) for name in picked or []][:_MOST_METRICS]
    address.put("of", names, goals)
    return names


@st.cache_resource(show_spinner="Asking which choices matter; about ten seconds for each metric …", max_entries=64)
def _importances(url: str, study: str, created: str, name: str, count: int, _shown: StudyView) -> pd.DataFrame:
    found, values = _data(_shown, name, count)
    return importance.importances(found, values, np.random.default_rng(0))


@st.cache_resource(show_spinner=False, max_entries=64)
def _effects(url: str, study: str, created: str, name: str, count: int, _shown: StudyView) -> Effects:
    found, values = _data(_shown, name, count)
    return importance.effects(found, values, np.random.default_rng(0))


def _data(shown: StudyView, name: str, count: int) -> tuple[encoding.Encoded, queries.Values]:
    """Return choices and values of one metric, for the networks that have it."""
    values = shown.table[name].to_numpy(float)
    rows = np.flatnonzero(np.isfinite(values))[:count][-_MOST_LATEST:]
    return encoding.encoded(shown.archs(rows), rows.tolist()), values[rows]


def _show_effects(shown: StudyView, names: Sequence[str], tables: dict[str, pd.DataFrame], count: int) -> None:
    st.subheader("Effect of each option", anchor=False)
    name = names[0]
    if len(names) > 1:
        name = str(
            st.segmented_control(
                "On",
                names,
                default=address.choice("effect", names, names[0]),
                format_func=lambda one: text.markdown(metric(one).phrase, 40),
                key=f"{shown.study.name} effect {' '.join(names)}",
                required=True,
            )
        )
        address.put("effect", name, names[0])
    found = _effects(*_identity(shown), name, count, shown)
    choices = tables[name]["choice"].head(_MOST_CHOICES).tolist()
    shell.show_figure(figures.effects_figure(found.table, name, choices), "effects", "Effects with intervals")
    good = f"{100 * max(0.0, found.explained):.0f} %"
    st.caption(
        f"Of the {len(choices)} most important choices, beside their mean; bars are 90 % intervals. A sum of such "
        f"effects explains {good} of the differences between networks held back."
    )


def _show_parallel(
    shown: StudyView, names: Sequence[str], tables: dict[str, pd.DataFrame], rows: "np.typing.NDArray[np.intp]"
) -> None:
    st.subheader("What goes together", anchor=False)
    choices = list(dict.fromkeys(one for table in tables.values() for one in table["choice"].head(4)))[:8]
    table = shown.table.iloc[rows]
    best = table.sort_values(names[0]).head(600)
    found = encoding.encoded(shown.archs(best.index), best.index.tolist())
    columns = {one: found.codes[:, found.names.index(one)] for one in choices if one in found.names}
    options = {one: found.options[found.names.index(one)] for one in columns}
    lines = best[list(names)].reset_index(drop=True).assign(**columns)
    shell.show_figure(figures.parallel_figure(lines, options, names), "parallel", "Parallel coordinates")
    st.caption(
        f"The best {len(best):,} networks by {text.markdown(metric(names[0]).phrase)}. Drag along an axis to choose."
    )


def page() -> None:
    shell.live("Space", show_space)


if __name__ == "__main__":
    page()
