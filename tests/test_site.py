"""The guide as a site: generated pages are complete; it builds without a warning and loads nothing from elsewhere."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = runpy.run_path(str(DOCS / "site.py"))


def test_every_public_name_has_an_entry() -> None:
    pages = SITE["generated"]()
    for package in ("nas", "search_spaces", "supernets"):
        shown = set(re.findall(r"^::: ([\w.]+)$", pages[f"reference/{package}.md"], re.MULTILINE))
        assert {f"{package}.{name}" for name in importlib.import_module(package).__all__} <= shown
        for name in shown:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_every_command_and_option_is_in_the_page_of_the_command_line() -> None:
    page = SITE["generated"]()["reference/command-line.md"]
    for heading in ("## nas search", "## nas target add", "## nas storage copy"):
        assert f"\n{heading}\n" in page
    search = page[page.index("## nas search") : page.index("## nas show")]
    assert "`nas search RUN_FILE`" in search and "| `--begin-with` |" in search
    assert "Default: `runs`. Environment variable: `NAS_RUNS`." in search


def test_every_method_is_in_the_page_of_methods() -> None:
    from nas.searchers import SEARCHERS
    from supernets.strategies import STRATEGIES

    page = SITE["generated"]()["reference/methods.md"]
    assert all(f"| {name} |" in page for name in (*SEARCHERS, *STRATEGIES))


def test_every_result_is_listed_with_a_command_that_exists() -> None:
    lines = [line for line in SITE["results"]().splitlines() if line.startswith("| [")]
    assert len(lines) == len(list((ROOT / SITE["RESULTS"]).glob("*.md")))
    for line in lines:
        command = re.search(r"`python -m ([\w.]+)", line)
        assert command is not None, line
        module = ROOT / Path(*command[1].split("."))
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), line


@pytest.mark.parametrize(
    ("link", "page", "uri", "place"),
    [
        ("../decisions/relaxation.md", "docs/guide/methods.md", "guide/methods.md", "../decisions/relaxation.md"),
        ("../../benchmarks/results/ranking.md#x", "docs/guide/a.md", "guide/a.md", "../results/ranking.md#x"),
        ("../../nas/study.py", "docs/concepts/README.md", "concepts/README.md", "../source/nas/study.py.md"),
        ("ranking.png", "benchmarks/results/ranking.md", "results/ranking.md", "ranking.png"),
        ("docs/threat-model.md", "SECURITY.md", "project/SECURITY.md", "../threat-model.md"),
        ("https://docs.ray.io/a", "docs/guide/a.md", "guide/a.md", "https://docs.ray.io/a"),
    ],
)
def test_links_lead_to_where_a_file_is_in_the_site(link: str, page: str, uri: str, place: str) -> None:
    assert SITE["rewritten"](f"[words]({link})", page, uri) == f"[words]({place})"


def test_what_fences_say_to_the_tests_is_dropped_also_within_lists() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="guide/cluster.md"))
    shown = SITE["on_page_markdown"]("1. x\n\n    ```bash theirs\n    ls\n    ```\n", page)
    assert shown == "1. x\n\n    ```bash\n    ls\n    ```\n"


def test_the_pictures_are_up_to_date() -> None:
    pictures = runpy.run_path(str(DOCS / "concepts" / "pictures.py"))["PICTURES"]
    page = (DOCS / "concepts" / "README.md").read_text(encoding="utf-8")
    for name, draw in pictures.items():
        written = (DOCS / "concepts" / f"{name}.svg").read_text(encoding="utf-8")
        assert written == draw(), "run python docs/concepts/pictures.py"
        assert f"]({name}.svg)" in page


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason="the site needs the extra docs: pip install nas[docs]")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        build, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]* src=\"?([^\s\">]+)", html)
        loaded += re.findall(
            r"<link[^>]* rel=\"?(?:stylesheet|icon|preconnect|preload)\"?[^>]* href=\"?([^\s\">]+)", html
        )
        assert not [place for place in loaded if "//" in place], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text(encoding="utf-8")), style
