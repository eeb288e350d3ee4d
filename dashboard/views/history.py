"""The page of a search's history: growth of the front, best objectives, workers and failures."""

import streamlit as st

from dashboard import progress, queries, shell, text
from dashboard.figures import history
from dashboard.queries import StudyView

_MOST_BARS = 1500  # evaluations that a timeline shows, the last ones


def show_history(shown: StudyView) -> None:
    reason = queries.why_empty(shown)
    if reason:
        shell.note(text.markdown(reason, 600))
        show_failures(shown)
        return
    _show_pace(shown)
    names = progress.objectives(shown)
    if len(names) <= progress.MOST_OBJECTIVES:
        st.subheader("Hypervolume of the front", anchor=False)
        st.caption(
            "Share of the box between the best value seen of each objective and the reference point "
            "that the front dominates. Flat for long: the search has found what it can."
        )
        grown = progress.hypervolume_history(shown.table, names)
        shell.show_figure(history.hypervolume_figure(grown), "hypervolume", "Hypervolume over the evaluations")
    st.subheader("Best of each objective", anchor=False)
    shell.show_figure(history.best_figure(shown.table, shown.study.objectives), "best")
    show_failures(shown)
    _show_timeline(shown)


def _show_pace(shown: StudyView) -> None:
    """Show progress, speed and remaining time."""
    table, left = shown.table, progress.seconds_left(shown)
    median = float(table["_seconds"].median())
    facts = [
        ("Evaluations", f"{len(table):,}" + (f" of {total:,}" if (total := progress.asked(shown)) else "")),
        ("Failed", f"{shown.num_failed:,}"),
        ("One takes (median)", progress.duration(median) if median >= 10 else f"{median:.2g} s"),
        ("Workers", f"{table['_worker'].nunique():,}"),
        ("Time left", "–" if left is None else f"about {progress.duration(left)}"),
    ]
    for slot, (name, value) in zip(st.columns(len(facts)), facts, strict=True):
        slot.metric(name, value)


def show_failures(shown: StudyView) -> None:
    """Show the reasons of failed evaluations, most frequent first."""
    failed = progress.failures(shown.table)
    if not len(failed):
        return
    count = int(failed["count"].sum())
    st.subheader(f"{count:,} failed evaluation{'s' if count > 1 else ''}", anchor=False)
    st.dataframe(
        failed[["count", "reason", "example", "last"]],
        hide_index=True,
        width="stretch",
        column_config={
            "count": st.column_config.NumberColumn("Count", width="small"),
            "reason": st.column_config.TextColumn("Reason", width="large"),
            "example": st.column_config.TextColumn("For instance"),
            "last": st.column_config.NumberColumn("Last at evaluation", width="small"),
        },
    )


def _show_timeline(shown: StudyView) -> None:
    last = shown.table.tail(_MOST_BARS)
    positions = shown.columns.positions[-len(last) :].tolist()
    lives = shell.repository().lives(shown.study.name, positions[0])
    rows = progress.timeline(last, [lives[at].stored if at in lives else None for at in positions])
    if not rows["seconds"].any():
        return
    st.subheader("Workers", anchor=False)
    shell.show_figure(history.timeline_figure(rows), "timeline")
    more = f" The last {_MOST_BARS:,} evaluations." if len(shown.table) > _MOST_BARS else ""
    st.caption(f"Each bar is an evaluation, up to the moment in which it was stored.{more}")


def page() -> None:
    shell.live("History", show_history)


if __name__ == "__main__":
    page()
