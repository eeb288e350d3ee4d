"""Shows the options that a training, `nas shrink` or the run file has closed, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.queries import StudyView


def show_closed(shown: StudyView) -> None:
    """Show a table of closed options; nothing if the study searches the whole space."""
    rows = shown.study.settings.get("closed", ())
    if not rows:
        return
    found = table(rows)
    options, choices = len(found), found["choice"].nunique()
    st.subheader(f"{options} option{'s' * (options > 1)} left out", anchor=False)
    st.dataframe(found, hide_index=True, width="stretch", height=min(320, 38 + 35 * options))
    st.caption(
        f"Of {choices} choice{'s' * (choices > 1)}; the supernet has them, and the search none of them. Without its "
        "line in the run file, or trained by another strategy, an option is back."
    )


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return columns choice, option and why, in the order of closing."""
    values = [(row["path"], _written(row["option"]), row["why"] or "no reason was given") for row in rows]
    return pd.DataFrame(values, columns=["choice", "option", "why"])


def _written(option: Any) -> str:
    return ", ".join(map(str, option)) if isinstance(option, list | tuple) else str(option)
