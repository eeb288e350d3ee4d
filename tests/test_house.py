"""The house stays in order: imports point one way, nothing unsafe is called, what ships is there."""

import ast
import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "supernets", "nas", "dashboard")

# The only files of `nas` that know supernets.
BRIDGES = (
    "commands/check",
    "stages/evaluators",
    "examples/*",
    "stages/exporting",
    "stages/networks",
    "stages/trust",
    "fidelity/architectures",
    "fidelity/forecasting",
    "stages/gradient",
    "searchers/gradient/*",
    "targets/*",
    "execution/trainers",
    "stages/tuning",
    "stages/workflow",
    "run",
    "run_file",
    "run_variants",
    "commands/session",
    "stages/compressing",
    "commands/propose",
    "demos/*",
)

# What each file may import of ours; of the patterns that match a file, the first one counts.
OURS = {
    "search_spaces/*": ["search_spaces"],
    "supernets/_load.py": [],
    "supernets/structure.py": [],
    "supernets/models/*": ["supernets.structure", "supernets.models"],
    "supernets/*": ["search_spaces", "supernets"],
    "nas/commands/app.py": ["search_spaces", "supernets", "nas", "dashboard.serve"],
    **{f"nas/{name}.py": ["search_spaces", "supernets", "nas"] for name in BRIDGES},
    "nas/*": ["search_spaces", "nas"],
    "dashboard/*": [
        "search_spaces",
        "dashboard",
        *(
            f"nas.{name}"
            for name in (
                "storage",
                "records",
                "objectives.pareto",
                "objectives.limits",
                "objectives.aims",
                "errors",
                "objectives.units",
                "results.front",
            )
        ),
        *("nas.results.trust", "nas.results.corrected", "nas.columns"),
        "nas.fidelity.ledger",
    ],
}

# Which files may import these of others, at any place in them.
THIRD_PARTIES = {
    "ray": ["nas/execution/cluster/*"],
    "sqlalchemy": ["nas/storage/*", "nas/migrations/*"],
    "alembic": ["nas/storage/*", "nas/migrations/*"],
    "streamlit": ["dashboard/*"],
    "torch": ["supernets/*", "nas/*"],
}

STDLIB = sys.stdlib_module_names
ONLY = {
    "search_spaces/*": {"numpy", "networkx"},
    "supernets/structure.py": {"torch"},
    "supernets/_load.py": {"torch", "safetensors"},
    "supernets/models/*": {"torch"},
}

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "numpy.load", "pandas.read_pickle"),
    *("torch.load", "torch.save", "torch.export.load"),  # the last one unpickles some tensors of its archive
}
OF_ITS_OWN_FILES = {"supernets/export.py": "torch.export.load"}  # of what it has written a moment before
FORBIDDEN_SETTINGS = {"weights_only": False, "allow_pickle": True, "trust_remote_code": True}


def files(*packages: str) -> list[str]:
    return sorted(p.relative_to(ROOT).as_posix() for name in packages or PACKAGES for p in (ROOT / name).rglob("*.py"))


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


def imports(file: str, typing: bool = False) -> Iterator[str]:
    """Absolute names of all that a file imports, also within functions; `from a import b` is a.b.

    Imports for type checkers alone count only with `typing`: they are not there when the program runs.
    """
    package = file.removesuffix(".py").removesuffix("/__init__").split("/")
    parents = package if file.endswith("/__init__.py") else package[:-1]
    for node in ast.walk(tree(file)) if typing else running(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def running(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            continue
        yield from running(child)


def within(name: str, modules: list[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


@pytest.mark.parametrize("file", files())
def test_imports_of_ours_point_one_way(file: str) -> None:
    allowed = next(modules for pattern, modules in OURS.items() if fnmatch(file, pattern))
    wrong = [name for name in imports(file) if name.split(".")[0] in PACKAGES and not within(name, allowed)]
    assert not wrong, f"{file} may import of ours {allowed}, not {wrong}: turn the dependency round"


# Inside supernets, from the ground up: no file of a floor imports from a floor above it.
FLOORS = [
    ["errors", "losses", "layout", "structure", "skeleton", "survey", "store", "planning", "resumable"],
    ["steps", "sharing", "relaxation"],
    ["supernet"],
    ["strategies"],
    ["training"],
    ["export", "standalone", "ranking"],
]


def test_the_floors_of_supernets_stand_on_one_another() -> None:
    height = {f"supernets.{name}": floor for floor, names in enumerate(FLOORS) for name in names}

    def floor(module: str) -> int | None:
        return next((height[name] for name in height if within(module, [name])), None)

    for file in files("supernets"):
        own = floor(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        above = [name for name in imports(file, typing=True) if own is not None and (floor(name) or 0) > own]
        assert not above, f"{file} imports {above} from floors above its own: say what it needs through a value"


def test_imports_go_round_in_no_circle() -> None:
    """For type checkers neither: two files that know each other are one file."""
    sources = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file
        for file in files(*PACKAGES, "benchmarks")
    }
    graph = nx.DiGraph(
        (module, target)
        for module, file in sources.items()
        for name in imports(file, typing=True)
        for target in [name if name in sources else name.rpartition(".")[0]]
        if target in sources and target != module
    )
    assert [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1] == []


@pytest.mark.parametrize("file", files())
def test_other_packages_are_imported_in_their_places(file: str) -> None:
    for name in imports(file):
        root = name.split(".")[0]
        places = THIRD_PARTIES.get(root)
        assert places is None or any(fnmatch(file, place) for place in places), f"{name} belongs in {places}"
        for pattern, packages in ONLY.items():
            known = root in STDLIB or root in packages or root in PACKAGES
            assert known or not fnmatch(file, pattern), f"{file} imports {name}: {pattern} may import {packages}"


@pytest.mark.parametrize("file", files())
def test_nothing_is_unpickled_or_evaluated(file: str) -> None:
    wrong = [name for name in unsafe(tree(file)) if OF_ITS_OWN_FILES.get(file) != name]
    assert not wrong, f"{file} uses {wrong}: data goes as JSON and safetensors"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "def f():\n from dill import loads",
        "import torch as t\nt.load('x')",
        "from torch import load as read\nread('x')",
        "import numpy as np\nnp.load('x')",
        "eval('1')",
        "import torch.export\ntorch.export.load('x')",
        "open_it('x', weights_only=False)",
        "read(**{'a': 1}, allow_pickle=1 == 1)",
        "Auto.from_pretrained('x', trust_remote_code=True)",
    ],
)
def test_unsafe_code_is_seen(code: str) -> None:
    assert unsafe(ast.parse(code))
    assert not unsafe(ast.parse("import re\nre.compile('x')\nload(weights_only=True, mmap=False)"))


def unsafe(module: ast.Module) -> list[str]:
    """What unpickles or evaluates in a file, under whatever name it was imported."""
    meant = dict(bindings(module))
    wrong = [name for name in meant.values() if name.split(".")[0] in FORBIDDEN_MODULES]
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        head, _, rest = ast.unparse(call.func).partition(".")
        name = ".".join(filter(None, [meant.get(head, head), rest]))
        wrong += [name] if name in FORBIDDEN_CALLS else []
        for setting in call.keywords:
            forbidden = FORBIDDEN_SETTINGS.get(setting.arg or "")
            # what is computed may be it
            plain = setting.value.value if isinstance(setting.value, ast.Constant) else forbidden
            wrong += [f"{setting.arg}={plain}"] if forbidden is not None and plain is forbidden else []
    return wrong


def bindings(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that a file's imports bind, with what each stands for."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.split(".")[0], _bound(alias)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _bound(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.split(".")[0]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("nas", ["ray", "streamlit", "torch"]),
        ("nas.records", ["ray", "streamlit", "torch"]),
        ("nas.storage", ["ray", "streamlit", "torch"]),
        ("nas.objectives.pareto", ["ray", "streamlit", "torch"]),
        ("nas.objectives.limits", ["ray", "streamlit", "torch"]),
        ("nas.searchers", ["ray", "streamlit", "torch"]),
        (
            "nas.commands.app",
            ["ray", "streamlit", "torch", "optuna", "sklearn", "sqlalchemy", "numpy", "pandas", "alembic"],
        ),
        ("nas.results.front", ["ray", "streamlit", "torch", "scipy", "networkx", "alembic"]),
        ("search_spaces", ["numpy", "torch", "ray", "streamlit", "sqlalchemy", "networkx"]),
        ("search_spaces.space", ["torch", "ray", "streamlit", "sqlalchemy", "networkx"]),
        ("supernets", ["ray", "streamlit", "sqlalchemy"]),
    ],
)
def test_importing_loads_no_more_than_needed(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"import {module} loads {done.stdout.strip()}"


OF_THEIR_OWN = {"TooWideError", "MalformedError", "DamagedError"}  # caught where they are raised, or in a file alone


def test_every_error_for_users_has_one_root() -> None:
    """`except nas.UserError` catches them all, whichever package raised."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for file in files()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    below = {"UserError"}
    while more := {name for name, above in bases.items() if above & below} - below:
        below |= more
    assert {name for name in bases if name not in below} == OF_THEIR_OWN
    assert len(below) > 20


def test_what_ships_is_there() -> None:
    for name in PACKAGES:
        assert (ROOT / name / "py.typed").is_file()
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "requirements.lock", ".ci/run"):
        assert (ROOT / name).is_file(), f"{name} is missing"
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50, "CONTRIBUTING.md is one screen"


def test_every_directory_of_code_is_a_package() -> None:
    folders = {(ROOT / file).parent for file in files()}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_the_lock_names_no_place_and_one_torch() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert all("==" in line and not set(line) & set("/@#") for line in lines if line)
    torch = [line for line in lines if line.startswith("torch==")]
    assert len(torch) == 1 and "+" not in torch[0], "one torch, without a local version, matches both builds"
    assert not [line for line in lines if line.startswith(("nvidia-", "triton"))]


def test_test_files_have_names_of_their_own() -> None:
    """Two of one name cannot be collected together."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
