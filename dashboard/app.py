"""The dashboard's entry point for `streamlit run`: opens the database, lists the pages and runs the requested one."""

import os
import sys
from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard import shell, theme
from dashboard.serve import STORAGE_VARIABLE
from nas.errors import NasError


def storage_url(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the URL of the database: the first argument after `--`, or else NAS_STORAGE.

    Raises:
        NasError: neither is given.
    """
    url = next(iter(arguments), "") or environment.get(STORAGE_VARIABLE, "")
    if not url:
        raise NasError(
            f"no database given; start with `nas dashboard --storage sqlite:///nas.db` or set {STORAGE_VARIABLE}"
        )
    return url


def main() -> None:
    st.set_page_config(page_title="nas", page_icon=theme.ICON, layout="wide")
    st.html(shell.STYLE)
    studies = st.Page("views/studies.py", title="Studies", icon=":material/list:", default=True)
    targets = st.Page("views/targets.py", title="Targets", icon=":material/memory:")
    tuning = st.Page("views/tuning.py", title="Tuning", icon=":material/stacked_line_chart:")
    chosen = [
        st.Page("views/front.py", title="Front", icon=":material/scatter_plot:"),
        st.Page("views/architecture.py", title="Architecture", icon=":material/account_tree:"),
        st.Page("views/space.py", title="Space", icon=":material/category:"),
        st.Page("views/gradient.py", title="Gradient", icon=":material/trending_down:"),
        st.Page("views/history.py", title="History", icon=":material/show_chart:"),
        st.Page("views/training.py", title="Training", icon=":material/model_training:"),
        st.Page("views/trust.py", title="Trust", icon=":material/verified:"),
        st.Page("views/settings.py", title="Settings", icon=":material/tune:"),
    ]
    page = st.navigation([studies, targets, tuning, *chosen], position="hidden")
    try:
        shell.open_database(storage_url(sys.argv[1:], os.environ))
        shell.show_sidebar([studies, targets, tuning], chosen, page)
        page.run()
    except NasError as error:
        shell.show_error(error)


if __name__ == "__main__":
    main()
