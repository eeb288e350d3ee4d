"""The dashboard's entry point for `streamlit run`: opens the database, lists the pages and runs the one asked for."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from dashboard import shell, theme
from dashboard.serve import STORAGE_VARIABLE
from nas.errors import NasError


def storage_url(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The database to show: the first argument after `--`, or else NAS_STORAGE.

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
    studies = st.Page("pages/studies.py", title="Studies", icon=":material/list:", default=True)
    targets = st.Page("pages/targets.py", title="Targets", icon=":material/memory:")
    chosen = [
        st.Page("pages/front.py", title="Front", icon=":material/scatter_plot:"),
        st.Page("pages/gradient.py", title="Gradient", icon=":material/trending_down:"),
        st.Page("pages/history.py", title="History", icon=":material/show_chart:"),
        st.Page("pages/training.py", title="Training", icon=":material/model_training:"),
        st.Page("pages/trust.py", title="Trust", icon=":material/verified:"),
        st.Page("pages/settings.py", title="Settings", icon=":material/tune:"),
    ]
    page = st.navigation([studies, targets, *chosen], position="hidden")
    try:
        shell.open_database(storage_url(sys.argv[1:], os.environ))
        shell.show_sidebar([studies, targets], chosen)
        with shell.entered():
            page.run()
    except NasError as error:
        shell.show_error(error)


def run(page: Callable[[], None]) -> None:
    """Run a page's script: within the entry point, or through it.

    Until `st.navigation` has been called once, Streamlit takes the folder `pages` for the list of pages and runs what
    the address names without the entry point: so for the first visitor, if they come by a link to a page.
    """
    if shell.is_entered():
        page()
    else:
        main()


if __name__ == "__main__":
    main()
