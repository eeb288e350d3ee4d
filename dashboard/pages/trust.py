"""Whether inherited weights rank networks as stand-alone training does."""

import streamlit as st

from dashboard import app, charts, queries, shell
from nas.trust import verdict
from nas.units import metric

_NO_SUPERNET = (
    "This study has no supernet: every network was judged by its own weights, so there are no ranks to doubt."
)
_NO_TRUST = """No trust report is stored for this study's supernet. Until there is one, take the order of networks
with care: a run file with `trust` set lets `nas search` train a few of them on their own and compare."""


def show_trust() -> None:
    shown = shell.current_view()
    shell.heading("Trust", shown)
    digest = shown.study.supernet_digest
    if digest is None:
        shell.note(_NO_SUPERNET)
        return
    trust = shell.repository().trust(digest)
    if trust is None:
        shell.note(_NO_TRUST)
        return
    judged = verdict(trust)
    if judged.is_reliable:
        st.success(f"**{judged.headline}.** {judged.reason}", icon=":material/check_circle:")
    else:
        st.warning(f"**{judged.headline}.** {judged.reason}", icon=":material/warning:")
    objective = metric(shown.study.objectives[0])
    rows = queries.trust_table(trust)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Inherited against stand-alone", anchor=False)
        if len(rows):
            shell.show_figure(charts.ranks_figure(rows, objective.name), "ranks")
        else:
            shell.note("This report holds no values of single networks.")
    with right:
        st.subheader("Agreement of the two orders", anchor=False)
        shell.show_figure(charts.interval_figure(trust), "interval")
        st.caption("The point is τ, the line its 95 % interval; a point in the grey part is too low to choose by.")
        first, second = st.columns(2)
        first.metric(
            f"Regret of the top {trust.top_k}",
            objective.text(trust.regret),
            help="How much worse the best of the networks ranked first by inherited weights is than the true best.",
        )
        second.metric("Networks checked", f"{trust.num_architectures}")


def page() -> None:
    shell.live(show_trust)


if __name__ == "__main__":
    app.run(page)
