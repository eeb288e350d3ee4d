"""All studies of the database; a click opens one."""

import streamlit as st

from dashboard import queries, shell
from dashboard.units import metric

_EMPTY = """This database has no studies yet. A first one takes a minute:

```
nas demo
```

Then reload this page, or leave it open: it looks again every few seconds."""


def show_studies() -> None:
    table = queries.studies_table(shell.views())
    if not len(table):
        st.markdown(_EMPTY)
        return
    table["objectives"] = [[metric(name).axis for name in names] for names in table["objectives"]]
    event = st.dataframe(
        table,
        key="studies",
        width="stretch",
        hide_index=True,
        row_height=40,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "study": st.column_config.TextColumn("Study", pinned=True),
            "status": st.column_config.TextColumn("Status"),
            "space": st.column_config.TextColumn("Space"),
            "objectives": st.column_config.ListColumn("Minimise", width="medium"),
            "limits": st.column_config.ListColumn("Limits", width="medium"),
            "searcher": st.column_config.TextColumn("Searcher"),
            "evaluations": st.column_config.NumberColumn("Evaluations", format="localized"),
            "failures": st.column_config.NumberColumn("Failed", format="localized"),
            "front": st.column_config.NumberColumn("Front", help="Networks that no other beats in every objective"),
            "started": st.column_config.DatetimeColumn("Started", format="distance"),
        },
    )
    rows = event["selection"]["rows"]
    if rows:
        st.switch_page("pages/front.py", query_params={"study": str(table["study"][rows[0]])})
    st.caption("Select a row to open the study.")


def page() -> None:
    st.title("Studies", anchor=False)
    st.fragment(show_studies, run_every=shell.REFRESH_SECONDS)()


if __name__ == "__main__":
    page()
