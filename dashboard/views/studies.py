"""The page of all studies: their progress, and a comparison of several fronts."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address, progress, queries, shell, text
from dashboard.figures import front, history
from dashboard.progress import Unreadable
from dashboard.queries import StudyView
from nas.objectives.units import metric

_EMPTY = """This database has no studies yet. A first one takes about five minutes:

```
nas demo
```

Then reload this page, or leave it open: it looks again every few seconds."""

_COLUMNS = (
    "study",
    "status",
    "progress",
    "left",
    "hypervolume",
    "front",
    "evaluations",
    "failures",
    "last",
    "objectives",
    "targets",
    "limits",
    "searcher",
    "space",
    "started",
)
_SEARCH_FROM = 4  # studies: fewer are seen at a glance
_MOST_COMPARED = 7


def show_studies() -> None:
    views = shell.views()
    if not views:
        st.markdown(_EMPTY)
        return
    table = _filtered(progress.studies_table(views))
    event = st.dataframe(
        table,
        key="studies",
        width="stretch",
        hide_index=True,
        row_height=44,
        placeholder="",
        on_select="rerun",
        selection_mode=["single-cell", "multi-row"],
        column_order=[name for name in _COLUMNS if _is_told(table, name)],
        column_config=_config(),
    )
    _show_unreadable(views)
    cells, rows = event["selection"]["cells"], event["selection"]["rows"]
    names = [str(table["study"].iloc[row]) for row in rows if row < len(table)]
    if cells and not names:
        name = str(table["study"].iloc[cells[0][0]])
        st.switch_page("views/front.py", query_params={"study": address.key(name)})
    st.caption("Click a study to open it; tick two or more at the left edge to compare them.")
    known = {one.study.name: one for one in views if isinstance(one, StudyView)}
    _compare([known[name] for name in names if name in known] if len(names) > 1 else [])


def _is_told(table: pd.DataFrame, name: str) -> bool:
    """Return whether any study has a value in this column."""
    always = ("study", "status", "evaluations", "hypervolume", "objectives", "started")
    return name in table and (name in always or bool(table[name].map(lambda value: value not in ("", 0, None)).any()))


def _filtered(table: pd.DataFrame) -> pd.DataFrame:
    if len(table) < _SEARCH_FROM:
        return table
    search, states = st.columns([3, 2], vertical_alignment="bottom")
    words = search.text_input("Search", key="search", placeholder="Name, space, objective, target, searcher").split()
    kinds = sorted({"cannot be read" if str(one).startswith("cannot") else str(one) for one in table["status"]})
    picked = states.pills("Status", kinds, selection_mode="multi", key="status", format_func=text.markdown)
    columns = ["study", "space", "objectives", "targets", "limits", "searcher", "status"]
    said = table[columns].astype(str).agg(" ".join, axis=1).str.lower()
    kept = pd.Series(True, index=table.index)
    for word in words:
        kept &= said.str.contains(word.lower(), regex=False)
    if picked:
        kept &= table["status"].map(lambda status: any(str(status).startswith(one) for one in picked))
    return table[kept].reset_index(drop=True)


def _config() -> dict[str, Any]:
    column = st.column_config
    return {
        "study": column.TextColumn("Study", pinned=True, width="medium"),
        "status": column.TextColumn("Status", width="small"),
        "progress": column.ProgressColumn("Progress", format="percent", min_value=0, max_value=1, width="small"),
        "left": column.TextColumn("Time left", width="small"),
        "hypervolume": column.LineChartColumn(
            "Hypervolume",
            width="medium",
            y_min=0,
            help="Share of the space of objectives that the front dominates, over the evaluations",
        ),
        "front": column.NumberColumn("Front", help="Networks that no other beats in every objective", width="small"),
        "evaluations": column.NumberColumn("Evaluations", format="localized", width="small"),
        "failures": column.NumberColumn("Failed", format="localized", width="small"),
        "last": column.TextColumn("Last evaluation", help="The objectives of what was evaluated last"),
        "objectives": column.TextColumn("Minimise"),
        "targets": column.TextColumn("Targets"),
        "limits": column.TextColumn("Limits"),
        "searcher": column.TextColumn("Searcher"),
        "space": column.TextColumn("Space"),
        "started": column.DatetimeColumn("Started", format="distance"),
    }


def _show_unreadable(views: Sequence[StudyView | Unreadable]) -> None:
    for one in views:
        if isinstance(one, Unreadable):
            st.warning(f"**{text.markdown(one.name)}** cannot be read: {text.markdown(one.reason, 400)}")


def _compare(views: Sequence[StudyView]) -> None:
    """Compare the fronts of several studies in two common metrics, and the growth of each front."""
    for empty in (one for one in views if not len(one.table)):
        shell.note(f"{text.markdown(empty.study.name)} has no evaluations yet and is left out.")
    views = [one for one in views if len(one.table)][:_MOST_COMPARED]
    if not views:
        return
    shared = [name for name in views[0].metrics if all(name in one.metrics for one in views)]
    if len(shared) < 2:
        shell.note("These studies have no two metrics in common, so no front shows them all.")
        return
    goals = [name for name in views[0].study.objectives if name in shared]
    x, y = (goals[1], goals[0]) if len(goals) > 1 else (shared[1], shared[0])
    left, right, _ = st.columns([2, 2, 3])
    x = left.selectbox("Across", shared, shared.index(x), format_func=lambda name: metric(name).axis, key="compare x")
    y = right.selectbox("Up", shared, shared.index(y), format_func=lambda name: metric(name).axis, key="compare y")
    fronts = {one.study.name: one.table[queries.non_dominated(one.table, (x, y))] for one in views}
    figure = front.fronts_figure(fronts, dict.fromkeys(fronts, x), y)
    shell.show_figure(figure, "compared", "Fronts of the chosen studies")
    st.subheader("Hypervolume over the evaluations", anchor=False)
    shell.show_figure(history.growth_figure(progress.shared_histories(views, (x, y))), "compared growth")
    st.caption("In the two metrics above, all under one reference point, each study under its own limits.")


def page() -> None:
    st.title("Studies", anchor=False)
    shell.part(show_studies, shell.REFRESH_SECONDS)


if __name__ == "__main__":
    page()
