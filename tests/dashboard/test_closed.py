"""What a search leaves out is on the page about the space."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import app
from dashboard.closed import table
from nas.records import SpaceRecord, StudyRecord
from nas.storage import Repository
from tests.dashboard.seeding import ConvSpace, evaluations

CLOSED = [
    {"path": "stem", "option": 16, "why": "step 400: it is worse: quality 0.712 in 40 networks with it"},
    {"path": "early.op.0", "option": "conv", "why": ""},
]


@pytest.mark.parametrize("closed", [CLOSED, []])
def test_the_page_says_what_is_left_out_and_why(
    closed: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, space = f"sqlite:///{tmp_path / 'closed.db'}", ConvSpace(stem=24)
    settings = {"closed": closed} if closed else {}
    with Repository(url) as repository:
        repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
        repository.create_study(
            StudyRecord("narrow", space.digest, None, ("error",), (), "random", seed=0, settings=settings)
        )
        repository.append_evaluations("narrow", evaluations(12, space=space), "none", "digits")
    monkeypatch.setenv("NAS_STORAGE", url)
    monkeypatch.setattr("sys.argv", ["app.py"])
    test = AppTest.from_file(app.__file__, default_timeout=30)
    test.switch_page("views/space.py")
    test.query_params["study"] = "narrow"
    test.run()
    assert not test.exception
    titles = [one.value for one in test.subheader]
    assert ("2 options left out" in titles) == bool(closed)
    if closed:
        (shown,) = (one.value for one in test.dataframe)
        assert shown.to_dict("list") == table(CLOSED).to_dict("list")
        assert shown["why"].tolist() == [CLOSED[0]["why"], "no reason was given"]
        assert any("Of 2 choices; the supernet has them, and" in one.value for one in test.caption)


def test_options_of_several_values_are_written_out() -> None:
    assert table([{"path": "a", "option": [1, 2], "why": "x"}])["option"].tolist() == ["1, 2"]
