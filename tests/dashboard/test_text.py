"""Text from the database stays text."""

import pytest
from hypothesis import given, strategies
from markdown_it import MarkdownIt

from dashboard import text

HOSTILE = "*md* :red[x] $x^2$ [l](http://e.com) <b>b</b> `c` :smile: ~~s~~ # h | t www.e.com a@b.de"


def read(markdown: str) -> str:
    """What a reader sees of Markdown, which must be plain text and code."""
    parser = MarkdownIt("commonmark").enable(["strikethrough", "table"])
    blocks = parser.parse(markdown)
    assert [block.type for block in blocks] == ["paragraph_open", "inline", "paragraph_close"]
    parts = blocks[1].children or []
    assert {part.type for part in parts} <= {"text", "code_inline"}
    return "".join(part.content for part in parts)


def test_nothing_of_markdown_is_left_in_it() -> None:
    said = text.markdown(HOSTILE, 200)
    assert read(said) == HOSTILE
    for sign in (" $x", ":red["):
        assert sign not in said, "what Streamlit adds to Markdown"
    for sign in ("`:smile:`", "http`://`e", "www`.`e", "a`@`b"):
        assert sign in said, "what is replaced even where it is escaped is code"
    assert "`" not in text.markdown("latency_ms@cpu"), "which is no address"


def test_a_time_is_no_emoji() -> None:
    assert "`" not in text.markdown("2026-01-31 12:44:57 UTC")
    assert "`:100:`" in text.markdown("a :100: b")


@given(strategies.text(strategies.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_any_text_is_read_as_it_was_written(said: str) -> None:
    if text.shortened(said):
        assert read(text.markdown(said)) == text.shortened(said)


@pytest.mark.parametrize("sign", ["<=", ">=", "->", "<-", "--", "~=", "<->"])
def test_signs_that_are_replaced_can_be_copied(sign: str) -> None:
    assert f"`{sign}`" in text.markdown(f"params {sign} 2")
    assert "`" not in text.markdown(f"params{sign}2")


def test_what_is_ordinary_stays_as_it_is() -> None:
    for said in ("digits-cnn", "0.76 (0.52 to 0.94), 12 %", "Größe 3/4 — möglich; ja?"):
        assert text.markdown(said) == said


@pytest.mark.parametrize(("said", "shown"), [("- a", "\\- a"), ("1. a", "1\\. a"), ("+ b", "\\+ b")])
def test_a_name_begins_no_list(said: str, shown: str) -> None:
    assert text.markdown(said) == shown


def test_long_text_is_cut_and_lines_are_joined() -> None:
    assert len(text.shortened("x" * 10_000)) == text.MOST
    assert text.shortened("one\n  two\tthree") == "one two three"


def test_signs_that_turn_a_line_are_written_out_and_languages_that_run_left_keep_to_themselves() -> None:
    assert text.shortened("a\u202eb") == "a\\u202eb"
    assert text.markdown("שלום") == "\u2068שלום\u2069"
    assert text.shortened("👩‍🔬 😀") == "👩‍🔬 😀"


def test_figures_take_no_html_and_no_templates() -> None:
    said = text.plot("<b>x</b> %{y} $z$ & 'q'")
    assert "<" not in said and "%{" not in said and "$" not in said
    assert "&lt;b&gt;" in said and "&amp;" in said


def test_code_is_fenced_by_more_than_it_holds() -> None:
    assert text.code("nas front 'a'") == "` nas front 'a' `"
    assert text.code("a ``b`` <c>") == "``` a ``b`` <c> ```"
