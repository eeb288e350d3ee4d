"""Collect the source code that a `build` needs, so that it runs without this package.

Files that import only available modules are copied unchanged. The file of `build` itself often declares the space and
runs the search too; from such a file the export keeps only the statements that `build` reaches, and it disables the
evaluation of annotations.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import inspect
import json
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supernets.errors import ExportError

OURS = frozenset({"search_spaces", "supernets", "nas", "dashboard"})
STRUCTURE = "supernets.structure"
# replaces the package in a copy, so that `from supernets import stack` works there too
_STRUCTURE_NAMES = frozenset(
    {"Ensemble", "Kept", "OneOf", "Stack", "ensemble", "keep", "one_of", "recursive", "stack", "tie"}
)
_PACKAGE = f"from .structure import {', '.join(f'{name} as {name}' for name in sorted(_STRUCTURE_NAMES))}\n"


@dataclass
class Sources:
    """The reference of a builder with its arguments, and the files (relative path to text) that make it importable."""

    module: str
    qualname: str
    arguments: list[Any] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> dict[str, Any]:
        """The builder's reference as JSON."""
        return {
            "module": self.module,
            "qualname": self.qualname,
            "arguments": self.arguments,
            "keywords": self.keywords,
        }


def collect(build: Callable[..., Any]) -> Sources:
    """Return the sources of `build`: a function or class of a module, or a partial of one with JSON arguments.

    Raises:
        ExportError: `build` has no importable source, as lambdas, nested functions and code typed into an interpreter,
            or it cannot run without this package.
    """
    target, arguments, keywords = _unwrap(build)
    module, qualname = _address(target)
    path = _file(sys.modules[module])
    name = re.sub(r"\W", "_", path.stem) if module == "__main__" else module
    sources = Sources(name, qualname, arguments, keywords)
    text = path.read_text(encoding="utf-8")
    if module == "__main__" or _foreign(_imports(ast.parse(text), name)):
        text = prune(text, qualname.split(".")[0])
    is_package = path.name == "__init__.py"
    _add(sources, name, text, is_package)
    return sources


def _unwrap(build: Callable[..., Any]) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return the function of a partial, and its arguments as JSON."""
    if not isinstance(build, functools.partial):
        return build, [], {}
    arguments, keywords = list(build.args), dict(build.keywords)
    try:
        plain = _listed([arguments, keywords])
        if json.loads(json.dumps(plain)) != plain:
            raise TypeError("keys that are not strings would change")
    except (TypeError, ValueError) as error:
        raise ExportError(f"the arguments of {build} must be JSON values to be exported: {error}") from None
    return build.func, *plain


def _listed(value: Any) -> Any:
    """Return a value with tuples as lists, as in JSON; running the export shows whether `build` accepts lists."""
    if isinstance(value, tuple | list):
        return [_listed(item) for item in value]
    return {key: _listed(item) for key, item in value.items()} if isinstance(value, dict) else value


def _address(target: Any) -> tuple[str, str]:
    """Return the module and qualified name of a function or class, after a check that they lead back to it."""
    module, qualname = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module not in sys.modules:
        raise ExportError(f"build {target!r} has no name to find it by: export with a function or class of a module")
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is not target:
        raise ExportError(f"build {module}:{qualname} cannot be imported by that name: define it at module level")
    return module, qualname


def _file(module: Any) -> Path:
    try:
        found = inspect.getsourcefile(module)
    except TypeError:
        found = None
    if found is None or not Path(found).is_file():
        raise ExportError(f"build is defined in {module.__name__!r}, which has no source file: move it into a .py file")
    return Path(found)


# What a module imports


@dataclass(frozen=True)
class _Import:
    module: str
    name: str | None  # of `from module import name`; None for `import module`


def _imports(tree: ast.Module, module: str, is_package: bool = False) -> list[_Import]:
    """Return all imports with absolute names, including those in functions but not those for type checkers."""
    parents = module.split(".") if is_package else module.split(".")[:-1]
    found = []
    for node in _walk_running(tree):
        if isinstance(node, ast.Import):
            found += [_Import(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            absolute = ".".join([*base, *([node.module] if node.module else [])])
            found += [_Import(absolute, alias.name) for alias in node.names]
    return found


def _walk_running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those in `if TYPE_CHECKING:` and `if __name__ == "__main__":`, which imports skip."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _never_runs(child.test):
            for other in child.orelse:
                yield from _walk_running(other)
        else:
            yield from _walk_running(child)


def _never_runs(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"}


def _foreign(imports: list[_Import]) -> list[_Import]:
    """Return the imports of this package that a copy cannot have: all except the structure and the models."""
    return [found for found in imports if found.module.split(".")[0] in OURS and not _taken_along(found)]


def _taken_along(found: _Import) -> bool:
    if found.module == "supernets":
        return found.name in _STRUCTURE_NAMES | {"structure"}
    return found.module == STRUCTURE or found.module.startswith("supernets.models")


# The files


def _add(sources: Sources, module: str, text: str, is_package: bool = False) -> None:
    """Add a module and, recursively, the user's own modules that it imports."""
    path = "/".join(module.split("."))
    key = f"{path}/__init__.py" if is_package else f"{path}.py"
    if sources.files.get(key):
        return
    for depth in range(1, len(module.split("."))):
        parent = "/".join(module.split(".")[:depth])
        sources.files.setdefault(f"{parent}/__init__.py", _PACKAGE if parent == "supernets" else "")
    sources.files[key] = text
    if module.split(".")[0] == "supernets":
        sources.files.setdefault("supernets/structure.py", _structure().read_text(encoding="utf-8"))
    imports = _imports(ast.parse(text), module, is_package)
    for found in _foreign(imports):
        what = f"{found.module}.{found.name}" if found.name else found.module
        raise ExportError(
            f"the code in {module} that builds the network imports {what}, which is not there where an export is "
            f"loaded: let model code import nothing of this package but {STRUCTURE}"
        )
    for found in imports:
        for name in _candidates(found):
            local = _local(name)
            if local is not None:
                _add(sources, name, local.read_text(encoding="utf-8"), local.name == "__init__.py")


def _candidates(found: _Import) -> list[str]:
    """Return the modules that an import may mean: for `from a import b`, a.b if it is a module, otherwise a."""
    if found.module == "supernets":
        return [STRUCTURE]
    if _installed(found.module):
        return []
    if found.name is not None and _spec(f"{found.module}.{found.name}") is not None:
        return [f"{found.module}.{found.name}"]
    return [found.module]


def _local(module: str) -> Path | None:
    """Return the file of a module that is not installed; None without a file, as for a namespace package."""
    if module == STRUCTURE:
        return _structure()
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _installed(module: str) -> bool:
    """Return whether a module comes with Python or an installed package, from its root alone, without an import."""
    root = module.split(".")[0]
    if root in sys.stdlib_module_names:
        return True
    spec = None if root in OURS else _spec(root)
    origin = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else Path()
    return any(folder in origin.parents for folder in _site_folders())


def _spec(module: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # an optional import, or a name within a module
        return None


@functools.cache
def _site_folders() -> frozenset[Path]:
    folders = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(folder).resolve() for folder in folders)


def _structure() -> Path:
    return Path(__file__).with_name("structure.py")


# Pruning a file to what one name needs


def prune(text: str, name: str) -> str:
    """Return the top-level statements that `name` reaches: those that define, change or import a name it uses."""
    tree = ast.parse(text)
    statements = [
        _Statement.of(node) for node in tree.body if not (isinstance(node, ast.If) and _never_runs(node.test))
    ]
    imported = {_bound(alias) for node in tree.body for alias in _aliases(node)}
    statements = [statement.without(imported) for statement in statements]
    needed, size = {name}, 0
    while len(needed) > size:
        size = len(needed)
        for statement in statements:
            if statement.changes & needed:
                needed |= statement.uses
    lines = ["from __future__ import annotations"]
    for statement in statements:
        if statement.changes & needed:
            lines += ["", statement.text(text, needed)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Statement:
    node: ast.stmt
    changes: frozenset[str]
    uses: frozenset[str]

    @classmethod
    def of(cls, node: ast.stmt) -> _Statement:
        if isinstance(node, ast.Import | ast.ImportFrom):
            future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            names = () if future else tuple(_bound(alias) for alias in node.names)
            return cls(node, frozenset(names), frozenset())
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return cls(node, frozenset({node.name}), _loads(node))
        return cls(node, frozenset(_changed(node)), _loads(node))

    def without(self, imported: set[str]) -> _Statement:
        """Return the statement with imported names removed from a bare call's changes: `torch.manual_seed(0)`."""
        if not isinstance(self.node, ast.Expr):
            return self
        return _Statement(self.node, self.changes - imported, self.uses)

    def text(self, source: str, needed: set[str]) -> str:
        """Return the statement's source text; for an import, only the needed names."""
        if isinstance(self.node, ast.Import | ast.ImportFrom):
            kept = [alias for alias in self.node.names if _bound(alias) in needed]
            if isinstance(self.node, ast.Import):
                return ast.unparse(ast.Import(names=kept))
            return ast.unparse(ast.ImportFrom(module=self.node.module, names=kept, level=self.node.level))
        decorators = getattr(self.node, "decorator_list", [])
        if not decorators:
            return ast.get_source_segment(source, self.node) or ast.unparse(self.node)
        return "\n".join(source.splitlines()[decorators[0].lineno - 1 : self.node.end_lineno])


def _aliases(node: ast.stmt) -> list[ast.alias]:
    return node.names if isinstance(node, ast.Import | ast.ImportFrom) else []


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _changed(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds or changes, by assignment to a part or by a method call."""
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            yield from _root(node.value.func)
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store):
            yield from _root(inner)
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.alias):
            yield _bound(inner)


def _root(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _loads(node: ast.AST) -> frozenset[str]:
    """Return all names that a node reads, except in annotations."""
    names: set[str] = set()
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Name):
                names.add(child.id)
            elif isinstance(child, ast.AST):
                names |= _loads(child)
    return frozenset(names)
