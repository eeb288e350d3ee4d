"""Hooks of `mkdocs build`: pages generated from the program, and pages of this repository that lie outside docs/.

- `reference/`: the command line from the program itself, methods from their tables, names from `__all__`.
- `results/`: benchmarks/results. `project/`: CONTRIBUTING.md, CHANGELOG.md and the like.
- `source/`: each source file that a page links to.

Links between files stay relative in the repository, so that they also work where Markdown is read there; they are
rewritten here for files that have another place in the site.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = "benchmarks/results"
PROJECT = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
REFERENCE = {
    "nas": ("nas", "nas.searchers", "nas.predictors", "nas.targets"),
    "search_spaces": ("search_spaces",),
    "supernets": ("supernets", "supernets.tasks", "supernets.training", "supernets.strategies", "supernets.sharing"),
}
"""The pages of names, and the modules whose `__all__` each shows."""
_LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"


# --- mkdocs ----------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of a folder where the navigation names the folder."""
    for entry in config.nav or []:
        for title, place in entry.items():
            if isinstance(place, str) and place.endswith("/"):
                entry[title] = pages_of(place.rstrip("/"))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere and those that are generated."""
    from mkdocs.structure.files import File

    placed = {uri: path for path, uri in elsewhere().items()}
    for uri, path in placed.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for uri, text in generated().items():
        files.append(File.generated(config, uri, content=text))
    for path in sorted(linked_sources()):
        files.append(File.generated(config, source_uri(path), content=source_page(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leads links to where their files are in the site; drops what fences say to the tests alone."""
    here = {uri: path for path, uri in elsewhere().items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = re.sub(r"^( *```\w+) theirs$", r"\1", markdown, flags=re.MULTILINE)
    return rewritten(markdown, here, page.file.src_uri)


# --- pages and links -------------------------------------------------------------


def elsewhere() -> dict[str, str]:
    """Files outside docs/ that are part of the site: path in the repository, path in the site."""
    results = {f"{RESULTS}/{p.name}": f"results/{p.name}" for p in (ROOT / RESULTS).iterdir() if p.suffix != ".jsonl"}
    return results | {name: f"project/{name}" for name in PROJECT}


def pages_of(folder: str) -> list[str]:
    """The pages of a folder of the site, its list of pages first."""
    uris = [uri for uri in elsewhere().values() if uri.startswith(f"{folder}/") and uri.endswith(".md")]
    uris += [path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md")]
    return [f"{folder}/README.md", *sorted(uris)]


def generated() -> dict[str, str]:
    """The generated pages: path in the site, Markdown."""
    names = {f"reference/{page}.md": names_page(page, modules) for page, modules in REFERENCE.items()}
    lists = {"results/README.md": results(), "decisions/README.md": decisions()}
    return names | lists | {"reference/command-line.md": command_line(), "reference/methods.md": methods()}


def results() -> str:
    """All results, with the command that repeats each."""
    head = """# Results

Every claim of speed or quality is measured by a script of the repository. Each page names the machine; figures are of
that machine. `make bench` runs the short ones, and each command below repeats one page.

| result | repeat with |
|---|---|
"""
    return head + "".join(
        f"| {_entry(path)} | `{repeated(path)}` |\n" for path in sorted((ROOT / RESULTS).glob("*.md"))
    )


def repeated(path: Path) -> str:
    """The command that writes a page of results."""
    written = re.search(r"`(python -m (?:benchmarks|tests)[^`]*)`", path.read_text(encoding="utf-8"))
    name = path.stem.removesuffix("_cuda")
    return written[1] if written else f"python -m benchmarks.{name}"


def decisions() -> str:
    """All decision notes."""
    head = "# Decisions\n\nWhy things are as they are: what was tried, what was measured, and what was chosen.\n\n"
    return head + "".join(f"- {_entry(path)}\n" for path in sorted((DOCS / "decisions").glob("*.md")))


def _entry(path: Path) -> str:
    title = path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
    return f"[{title}]({path.name})"


def target_of(link: str, here: str) -> str:
    """The path in the repository of what a file links to."""
    return os.path.normpath(PurePosixPath(here).parent / link)


def rewritten(markdown: str, here: str, uri: str) -> str:
    """Markdown of a file whose page is at `uri`, with links that lead to pages of the site."""

    def replaced(match: re.Match[str]) -> str:
        path = target_of(match[2], here)
        place = elsewhere().get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        if (ROOT / path).is_dir():
            place = {RESULTS: "results", "docs/decisions": "decisions"}.get(path, "") + "/README.md"
        elif not place:
            place = "README.md" if path == "README.md" else source_uri(path)
        return f"{match[1]}{os.path.relpath(place, PurePosixPath(uri).parent)}{match[3] or ''}{match[4]}"

    return _LINK.sub(replaced, markdown)


def linked_sources() -> set[str]:
    """Files of the repository that pages link to and that have no page of their own."""
    pages = {path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")} | set(elsewhere())
    found = set()
    for page in pages:
        if page.endswith(".md"):
            links = _LINK.findall((ROOT / page).read_text(encoding="utf-8"))
            found |= {target_of(link, page) for _, link, *_ in links}
    outside = {path for path in found - pages if not path.startswith("docs/") and path != "README.md"}
    return {path for path in outside if (ROOT / path).is_file()}


def source_uri(path: str) -> str:
    return f"source/{path}.md"


def source_page(path: str) -> str:
    kind = {".py": "python", ".toml": "toml", ".md": "markdown"}.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"{_UNSEARCHED}# {path}\n\n`````{kind}\n{text}\n`````\n"


# --- generated from the program --------------------------------------------------


def exported(module: str) -> list[str]:
    """The names in the `__all__` of a module, or else its public classes and functions."""
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value), key=str.lower)
    own = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return [name for name in own if not name.startswith("_")]


def names_page(page: str, modules: tuple[str, ...]) -> str:
    """The reference of modules; a name that several export is shown once."""
    seen: set[str] = set()
    lines = [f"# {page}\n"]
    for module in modules:
        names = [name for name in exported(module) if not name.isupper() and name not in seen]
        seen.update(names)
        lines += [f"## {module}\n", *(f"::: {module}.{name}\n" for name in names)]
    return "\n".join(lines)


def command_line() -> str:
    """Every command with its arguments and options."""
    sys.path.insert(0, str(ROOT))
    import typer.main

    from nas.commands.app import app

    root = typer.main.get_command(app)
    head = "# Command line\n\nGenerated from the program; `nas COMMAND --help` prints the same.\n"
    return "\n".join([head, *_command(root, "nas")])


def _command(command: click.Command, name: str) -> Iterator[str]:
    help_text = re.sub(r"\n(?!\n)\s*", " ", command.help or "")
    arguments = [(p.name or "").upper() for p in command.params if not p.opts[0].startswith("-")]
    yield f"## {name}\n\n`{' '.join([name, *arguments])}`\n\n{help_text}\n"
    options = [parameter for parameter in command.params if getattr(parameter, "help", None)]
    if options:
        yield "| argument or option | meaning |\n|---|---|"
        yield from (f"| {_option(parameter)} | {_cell(parameter)} |" for parameter in options)
        yield ""
    for child, below in sorted(getattr(command, "commands", {}).items()):
        yield from _command(below, f"{name} {child}")


def _option(parameter: Any) -> str:
    return "`" + ", ".join(parameter.opts) + "`" if parameter.opts[0].startswith("-") else f"`{parameter.name.upper()}`"


def _cell(parameter: Any) -> str:
    text = parameter.help.replace("|", "\\|")
    default = parameter.default
    shown = getattr(parameter, "show_default", False) and default not in (None, "", False) and default != []
    variable = f" Environment variable: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    return text + (f" Default: `{default}`." if shown and not callable(default) else "") + variable


def methods() -> str:
    """Training strategies, sharings, searchers and gradient methods: their settings and papers."""
    sys.path.insert(0, str(ROOT))
    from nas.searchers import SEARCHERS
    from nas.searchers.gradient.methods import METHODS
    from nas.searchers.spelled import defaults
    from supernets.catalogue import catalogue, entry
    from supernets.sharing import SHARINGS
    from supernets.strategies import STRATEGIES

    tables = {
        "Training strategies": catalogue(STRATEGIES),
        "Weight sharings": catalogue(SHARINGS),
        "Searchers": [entry(name, defaults(made), made) for name, made in SEARCHERS.items()],
        "Gradient methods": catalogue(METHODS),
    }
    lines = ["# Methods\n", "Generated from the program; `nas methods` prints the same.\n"]
    for title, entries in tables.items():
        lines += [f"## {title}\n", "| name | settings | what it does | papers |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(_shown(getattr(e, f.name)) for f in fields(e)) + " |" for e in entries]
        lines.append("")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"`{name}={setting}`" for name, setting in value.items()]
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value).replace("|", "\\|")
