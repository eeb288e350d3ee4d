"""Writes errors.md: every message of an error that a user can put right, read off the lines that raise it.

python docs/guide/errors.py
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("errors.md")
PACKAGES = ("nas", "supernets", "search_spaces", "dashboard")
ROOTS = {"NasError", "SupernetError", "SpaceError"}
HEAD = """# Messages

Every error that you can put right is one line, `error: ...`, with the value, the rule and the remedy. This page lists
them all, with `…` where a message names a value of yours: search it for a few of the other words. `nas --verbose`
before a command shows where it was raised. Written by `python docs/guide/errors.py`.
"""


def page() -> str:
    """The text of the page."""
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for name in PACKAGES
        for path in sorted((ROOT / name).rglob("*.py"))
    }
    kinds = errors(list(trees.values()))
    sections = []
    for file, tree in trees.items():
        messages = sorted(set(raised(tree, kinds)), key=str.lower)
        if messages:
            about = (ast.get_docstring(tree) or "").split("\n")[0]
            lines = "\n".join(f"- {message}" for message in messages)
            sections.append(f"## [{file}](../../{file})\n\n{about}\n\n{lines}\n")
    return "\n".join([HEAD, *sections])


def errors(trees: list[ast.Module]) -> set[str]:
    """The names of our errors: the roots and what is derived from them."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = set(ROOTS)
    while more := {c.name for c in classes if found & {ast.unparse(base) for base in c.bases}} - found:
        found |= more
    return found


def raised(tree: ast.AST, kinds: set[str]) -> Iterator[str]:
    """The messages of a file, with what the function says beforehand put in."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if not isinstance(call, ast.Call) or not call.args or ast.unparse(call.func).split(".")[-1] not in kinds:
            continue
        around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
        said = {name: text for f in around for name, text in texts(f, before=node.lineno)}
        message = re.sub(r"(…\s*)+", "… ", spelled(call.args[0], said)).strip()
        if re.search(r"[a-z]{3,}.*[a-z]{3,}", message):
            yield (
                re.sub(r"… (?=[\]\),.;:'\"])", "…", message)
                .replace("<", "&lt;")
                .replace("*", "\\*")
                .replace("_", "\\_")
            )


def texts(function: ast.FunctionDef, before: int) -> Iterator[tuple[str, str]]:
    """The variables of a function that are texts, such as `remedy`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and node.lineno < before and isinstance(node.targets[0], ast.Name):
            text = spelled(node.value, {})
            if text.strip(" …"):
                yield node.targets[0].id, text


def spelled(node: ast.expr, said: dict[str, str]) -> str:
    """A text as it is written, with … for what is only known when it is raised."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spelled(part, said) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return spelled(node.value, said)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spelled(node.left, said) + spelled(node.right, said)
    if isinstance(node, ast.Name):
        return said.get(node.id, "… ")
    return "… "


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
