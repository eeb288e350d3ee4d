"""How the search went: hypervolume of the front and the best of each objective over evaluations."""

import streamlit as st

from dashboard import app, charts, queries, shell


def show_history() -> None:
    shown = shell.current_view()
    shell.heading("History", shown)
    reason = queries.why_empty(shown)
    if reason:
        shell.note(reason)
        return
    history = queries.hypervolume_history(shown.table, shown.study.objectives)
    st.subheader("Hypervolume of the front", anchor=False)
    st.caption(
        "Share of the box between the best value seen of each objective and the reference point "
        "that the front dominates. Flat for long: the search has found what it can."
    )
    shell.show_figure(charts.hypervolume_figure(history), "hypervolume")
    st.subheader("Best of each objective", anchor=False)
    shell.show_figure(charts.best_figure(shown.table, shown.study.objectives), "best")
    show_failures(shown)


def show_failures(shown: queries.StudyView) -> None:
    """Reasons of the failed evaluations, most frequent first."""
    failed = shown.table[shown.table["_failed"]]
    if not len(failed):
        return
    st.subheader(f"{len(failed):,} failed evaluation{'s' if len(failed) > 1 else ''}", anchor=False)
    reasons = failed.groupby("_reason").agg(count=("_digest", "size"), example=("_digest", "first")).reset_index()
    st.dataframe(
        reasons.sort_values("count", ascending=False)[["count", "_reason", "example"]],
        hide_index=True,
        width="stretch",
        column_config={
            "count": st.column_config.NumberColumn("Count", width="small"),
            "_reason": st.column_config.TextColumn("Reason", width="large"),
            "example": st.column_config.TextColumn("For instance"),
        },
    )


def page() -> None:
    shell.live(show_history)


if __name__ == "__main__":
    app.run(page)
