"""The page of a study's settings: search, seed, files and dates."""

import json
from typing import Any

import streamlit as st

from dashboard import shell
from dashboard.queries import StudyView
from nas.errors import NasError


def show_settings(shown: StudyView) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Search", anchor=False)
        shell.show_facts(_search_facts(shown))
        st.subheader("Settings of the searcher and the run", anchor=False)
        if shown.study.settings:
            shell.show_facts(_flat(shown.study.settings))
        else:
            st.caption("All at their defaults.")
    with right:
        st.subheader("Supernet", anchor=False)
        _show_supernet(shown)
        if shown.space:
            st.subheader("Space", anchor=False)
            shell.show_facts({"name": shown.space.name, "version": shown.space.digest})
            with st.expander("Declaration"):
                st.json(shown.space.declaration, expanded=2)


def _search_facts(shown: StudyView) -> dict[str, str]:
    study = shown.study
    return {
        "minimises": ", ".join(study.objectives),
        "limits": ", ".join(study.limits) or "none",
        "searcher": study.searcher,
        "seed": str(study.seed),
        "status": study.status,
        "started": study.created.replace("T", " ")[:16] + " UTC",
        "run file": study.run_file or "none: started from Python",
        "evaluations": f"{len(shown.table):,}, {shown.num_failed:,} failed",
        "evaluation time": f"{shown.table['_seconds'].sum():,.0f} s in all",
    }


def _show_supernet(shown: StudyView) -> None:
    if shown.study.supernet_digest is None:
        st.caption("None: each network was trained or looked up on its own.")
        return
    try:
        supernet = shell.repository().supernet(shown.study.supernet_digest)
    except NasError as error:
        shell.show_error(error)
        return
    facts = {
        "name": supernet.name,
        "sharing": supernet.sharing,
        "steps": f"{supernet.steps:,}",
        "weights": supernet.weights_path,
        "weights digest": supernet.digest,
        "task digest": supernet.task_digest,
        "trained": supernet.created.replace("T", " ")[:16] + " UTC",
    }
    shell.show_facts({**facts, **_flat(supernet.settings)})


def _flat(settings: dict[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}


def page() -> None:
    shell.live("Settings", show_settings)


if __name__ == "__main__":
    page()
