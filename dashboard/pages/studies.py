"""All studies of the database; a click opens one."""

import streamlit as st

from dashboard import app, queries, shell

_EMPTY = """This database has no studies yet. A first one takes about five minutes:

```
nas demo
```

Then reload this page, or leave it open: it looks again every few seconds."""

_COLUMNS = (
    "study",
    "status",
    "evaluations",
    "failures",
    "front",
    "started",
    "searcher",
    "space",
    "objectives",
    "limits",
)


def show_studies() -> None:
    table = queries.studies_table(shell.views())
    if not len(table):
        st.markdown(_EMPTY)
        return
    event = st.dataframe(
        table,
        key="studies",
        width="stretch",
        hide_index=True,
        row_height=40,
        on_select="rerun",
        selection_mode="single-cell",
        column_order=_COLUMNS,
        column_config={
            "study": st.column_config.TextColumn("Study", pinned=True),
            "status": st.column_config.TextColumn("Status"),
            "space": st.column_config.TextColumn("Space"),
            "objectives": st.column_config.TextColumn("Minimise"),
            "limits": st.column_config.TextColumn("Limits"),
            "searcher": st.column_config.TextColumn("Searcher"),
            "evaluations": st.column_config.NumberColumn("Evaluations", format="localized"),
            "failures": st.column_config.NumberColumn("Failed", format="localized"),
            "front": st.column_config.NumberColumn("Front", help="Networks that no other beats in every objective"),
            "started": st.column_config.DatetimeColumn("Started", format="distance"),
        },
    )
    cells = event["selection"]["cells"]
    if cells:
        st.switch_page("pages/front.py", query_params={"study": str(table["study"][cells[0][0]])})
    st.caption("Click a study to open it.")


def page() -> None:
    st.title("Studies", anchor=False)
    st.fragment(show_studies, run_every=shell.REFRESH_SECONDS)()


if __name__ == "__main__":
    app.run(page)
