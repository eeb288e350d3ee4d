"""Exports: each format gives the module's outputs where this package is not installed; a folder is whole or absent."""

import functools
import importlib
import importlib.util
import json
import os
import py_compile
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice, derive
from supernets import _load
from supernets._sources import prune
from supernets.errors import ExportError
from supernets.export import Exported, export
from tests.supernets.export_networks import ConvNet, LanguageModel, Recurrent, mlp

ROOT = Path(__file__).parents[2]
CONV = Architecture("Conv", {"width": 8, "ops": ("conv", "separable")})
MLP = Architecture("Mlp", {"widths": (5, 7)})
EXAMPLE = torch.linspace(-1, 1, 8).view(2, 4)
RNN = Architecture("Rnn", {"cell": Architecture("Cell", {"hidden": 7})})
CASES = {
    "conv": (ConvNet, CONV, torch.randn(2, 3, 8, 8)),
    "mlp": (functools.partial(mlp, classes=3), MLP, torch.randn(1, 4)),
    "language": (LanguageModel, Architecture("Lm", {"width": 16, "heads": 2}), torch.randint(0, 17, (3, 8))),
    "recurrent": (Recurrent, RNN, torch.randn(2, 5, 6)),
}


def network(name: str) -> nn.Module:
    """A network with weights and statistics that no constructor gives, in training mode."""
    build, arch, _ = CASES[name]
    module, generator = build(arch), torch.Generator().manual_seed(0)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.05, 0.3, generator=generator)
    return module


def export_case(name: str, directory: Path, **options) -> Exported:
    build, arch, example = CASES[name]
    return export(network(name), arch=arch, build=build, example=example, directory=directory, **options)


def export_mlp(directory: Path, module: nn.Module | None = None, **options) -> Exported:
    """The quickest export there is: weights and code only."""
    options = {"arch": MLP, "build": mlp, "example": EXAMPLE, "formats": ("safetensors",), **options}
    return export(module or mlp(MLP), directory=directory, **options)


def leaves(output) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [leaf for part in output for leaf in leaves(part)]


# Runs where the packages are blocked but for what lies in the exported folders, from another working directory.
CHILD = """
import importlib.util, json, sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(sys.argv[1])
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"nas", "supernets", "search_spaces", "dashboard"}:
            spec = PathFinder.find_spec(name, path)
            if spec is None or spec.origin is None or ROOT not in Path(spec.origin).parents:
                raise ImportError(f"{name} is blocked")
            return spec
sys.meta_path.insert(0, Blocker())

import onnxruntime, torch
from safetensors.torch import load_file
torch.set_num_threads(1)

def leaves(output):
    return [output] if isinstance(output, torch.Tensor) else [leaf for part in output for leaf in leaves(part)]

def apart(call, folder):
    data, worst = load_file(folder.with_suffix(".expected")), 0.0
    for size in (1, 4):
        with torch.inference_mode():
            got = leaves(call(data[f"{size}.in"]))
        wanted = [data[name] for name in sorted(data) if name.startswith(f"{size}.out")]
        assert [g.shape for g in got] == [w.shape for w in wanted] and wanted
        worst = max(worst, *(float((g - w).abs().max()) for g, w in zip(got, wanted)))
    return worst

def onnx(folder):
    session = onnxruntime.InferenceSession(str(folder / "network.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: [torch.as_tensor(y) for y in session.run(None, {name: x.numpy()})]

def loaded(folder):
    spec = importlib.util.spec_from_file_location(f"load_{folder.name}", folder / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()

report = {}
for name in sys.argv[2:]:
    folder = ROOT / name
    report[name] = {"load.py": apart(loaded(folder), folder)}
    if (folder / "network.pt2").exists():
        report[name]["torch"] = apart(torch.export.load(folder / "network.pt2").module(), folder)
    if (folder / "network.onnx").exists():
        report[name]["onnx"] = apart(onnx(folder), folder)
for name in ("nas", "search_spaces", "supernets.supernet"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise AssertionError(f"{name} could be imported")
print(json.dumps(report))
"""


@pytest.fixture(scope="module", params=[["conv"], pytest.param([*CASES], marks=pytest.mark.slow)], ids=["few", "all"])
def exports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases as safetensors, those of the parameter in the other formats too.

    Each comes with inputs of two batch sizes and the module's own outputs beside it.
    """
    root = tmp_path_factory.mktemp("exports")
    for name, (_, _, example) in CASES.items():
        formats = ("safetensors", *(("torch", "onnx") if name in request.param else ()))
        exported = export_case(name, root / name, metadata={"metrics": {"error": 0.25}}, formats=formats)
        assert exported.differences.keys() == set(formats)
        assert exported.max_abs_difference <= 1e-5
        data, module = {}, network(name).eval()
        for size in (1, 4):
            x = torch.cat([example.flip(-1)] * 4)[:size]
            data[f"{size}.in"] = x.clone()
            data |= {f"{size}.out{i}": leaf.detach().contiguous() for i, leaf in enumerate(leaves(module(x)))}
        save_file(data, root / f"{name}.expected")
    return root


def test_every_format_runs_where_the_package_cannot_be_imported(exports: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-IB", "-W", "error::SyntaxWarning", "-c", CHILD, str(exports), *CASES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report.keys() == CASES.keys() and report["conv"].keys() == {"load.py", "torch", "onnx"}
    for name, differences in report.items():
        assert all(difference <= 1e-5 for difference in differences.values()), (name, differences)


def test_the_record_says_what_the_folder_holds(exports: Path) -> None:
    record = json.loads((exports / "conv" / "architecture.json").read_text())
    assert record["architecture"] == {"is": "Conv", "width": 8, "ops": ["conv", "separable"]}
    assert record["build"]["module"] == "tests.supernets.export_networks" and record["build"]["qualname"] == "ConvNet"
    assert record["input"] == [{"shape": [2, 3, 8, 8], "dtype": "float32"}]
    assert record["metadata"] == {"metrics": {"error": 0.25}}
    assert record["versions"]["torch"] == torch.__version__
    assert max(record["differences"].values()) <= record["tolerance"]
    files = {path.relative_to(exports / "conv").as_posix() for path in (exports / "conv").rglob("*") if path.is_file()}
    assert files == {"SHA256SUMS", *_load.manifest(exports / "conv")}
    assert {"load.py", "weights.safetensors", "network.pt2", "network.onnx"} <= files
    partial = json.loads((exports / "mlp" / "architecture.json").read_text())["build"]
    assert (partial["qualname"], partial["arguments"], partial["keywords"]) == ("mlp", [], {"classes": 3})


def test_no_file_tells_where_it_was_made(exports: Path) -> None:
    for path in exports.rglob("*.*"):
        if path.is_file():
            assert str(ROOT).encode() not in path.read_bytes(), path


def test_tied_weights_are_saved_once_and_tied_again(exports: Path) -> None:
    folder = exports / "language"
    saved = load_file(folder / "weights.safetensors")
    assert "embedding.weight" in saved and "out.weight" not in saved and "positions" in saved
    model = loaded(folder)
    assert model.out.weight is model.embedding.weight and not model.training
    assert "positions" not in model.state_dict()


def test_files_are_as_large_as_the_network(tmp_path: Path) -> None:
    arch = Architecture("Mlp", {"widths": (400, 500)})
    module = mlp(arch)
    exported = export_mlp(tmp_path / "out", module, arch=arch, formats=("safetensors", "torch", "onnx"))
    weights = 4 * sum(parameter.numel() for parameter in module.parameters())
    for name in ("safetensors", "torch", "onnx"):
        assert weights <= exported.paths[name].stat().st_size <= weights + 60_000


def loaded(folder: Path) -> nn.Module:
    spec = importlib.util.spec_from_file_location("load_exported", folder / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


class Line(Space):
    start = choice(5, 6)
    step = choice(2, 3)

    @derive
    def widths(start: int, step: int) -> list[int]:
        return [start, start + step]


def test_a_builder_reads_what_the_space_derives(tmp_path: Path) -> None:
    arch = Architecture.from_json(Line().largest().json())  # as a database gives it
    module = mlp(arch)
    exported = export_mlp(tmp_path / "net", module, arch=arch)
    assert torch.equal(loaded(exported.directory)(EXAMPLE), module.eval()(EXAMPLE))
    told = json.loads(exported.paths["architecture"].read_text())["architecture"]
    assert told == {"is": "Line", "start": 6, "step": 3, "derived": {"widths": [6, 9]}}


def test_precision_is_kept(tmp_path: Path) -> None:
    module = mlp(MLP).double()
    export_mlp(tmp_path / "out", module, example=torch.randn(2, 4, dtype=torch.float64))
    model = loaded(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), module.parameters(), strict=True))
    assert next(model.parameters()).dtype == torch.float64


def test_the_module_and_this_process_are_left_alone(tmp_path: Path) -> None:
    module, state, modules, path = mlp(MLP), torch.get_rng_state(), set(sys.modules), list(sys.path)
    export_mlp(tmp_path / "out", module)
    assert module.training and torch.equal(torch.get_rng_state(), state)
    assert set(sys.modules) == modules and sys.path == path
    assert loaded(tmp_path / "out") is not None
    assert sys.modules["supernets.export"].export is export


# What cannot be exported


def test_views_of_shared_weights_are_refused(tmp_path: Path) -> None:
    module = mlp(MLP)
    module[2].weight = nn.Parameter(torch.randn(64, 64)[:2, :7])
    with pytest.raises(ExportError, match=r"'2\.weight' is a view .*extract"):
        export_mlp(tmp_path / "out", module)
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_makes_another_network_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not fit what source/ builds \(RuntimeError"):
        export_mlp(tmp_path / "out", arch=Architecture("Mlp", {"widths": (5, 6)}))
    with pytest.raises(ExportError, match="outputs of the safetensors file differ"):
        export_mlp(tmp_path / "out", nn.Sequential(*mlp(MLP), nn.Softplus()))
    assert list(tmp_path.iterdir()) == []


class Random(nn.Module):
    def __init__(self, arch) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x) * self.weight


def test_differences_beyond_the_tolerance_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch file differ from the module's by .* more than 0\.0001"):
        export_mlp(tmp_path / "out", Random(None), build=Random, formats=("torch",))
    assert list(tmp_path.iterdir()) == []


class Fixed(nn.Module):
    def __init__(self, arch) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if float(x.sum()) > 0 else x


def test_a_module_that_cannot_be_traced_says_what_to_leave_out(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"torch\.export cannot trace Fixed .* leave out the formats torch and onnx"
    ) as e:
        export_mlp(tmp_path / "out", Fixed(None), build=Fixed, formats=("torch",))
    assert "\n" not in str(e.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("pickle",)}, "format 'pickle' is not known: choose of safetensors, torch, onnx"),
        ({"formats": ()}, "choose of safetensors"),
        ({"example": (torch.ones(2, 4), torch.ones(3, 4))}, r"shapes \(2, 4\), \(3, 4\): .* the same batch"),
        ({"example": torch.ones(0, 4)}, "the same batch, 1 or more"),
        ({"metadata": {"error": float("nan")}}, "metadata must be JSON"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_mlp(tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_missing_onnx_packages_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pip install nas\[onnx\]"):
        export_mlp(tmp_path / "out", formats=("onnx",))


def nested():
    def build(arch):
        return mlp(arch)

    return build


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda arch: mlp(arch), "define it at module level"),
        (nested(), "define it at module level"),
        (functools.partial(mlp, classes={2, 3}), "must be JSON values"),
        (functools.partial(mlp, classes={2: 3}), "keys that are not strings would change"),
        (nn.Linear(1, 1), "has no name to find it by"),
    ],
)
def test_builders_that_cannot_be_imported_are_refused(tmp_path: Path, build, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_mlp(tmp_path / "out", build=build)


# The user's own code


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that declares a space, imports a package of the user's, and would search when run to its end."""
    files = {
        "research_search.py": """
            '''Searches.'''
            from typing import TYPE_CHECKING

            import torch
            from research.blocks import layer
            from search_spaces import Architecture, Space, choice
            from supernets import Supernet, stack
            from torch import nn
            if TYPE_CHECKING:
                import nas

            class Tiny(Space):
                widths = choice((5, 7), (6, 8))

            SIZES = {"classes": 2}
            SIZES.update(inputs=4)
            torch.manual_seed(0)
            space = Tiny()

            def build(arch: Architecture) -> nn.Module:
                # as wide as asked
                sizes = [SIZES["inputs"], *arch.widths]
                layers = stack(layer(a, b) for a, b in zip(sizes, sizes[1:]))
                return nn.Sequential(layers, nn.Linear(sizes[-1], SIZES["classes"]))

            def bad(arch):
                return Supernet(space, build)

            if __name__ == "__main__":
                raise SystemExit("searches")
            """,
        "research/__init__.py": "raise RuntimeError('imports the world')",
        "research/blocks.py": """
            from torch import nn
            from .activations import activation

            def layer(a, b):
                return nn.Sequential(nn.Linear(a, b), activation())
            """,
        "research/activations.py": "from torch.nn import Tanh as activation\n",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))
    (tmp_path / "project" / "research" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "project")
    yield tmp_path / "project"
    for name in [name for name in sys.modules if name.startswith("research")]:
        del sys.modules[name]


def test_of_a_script_only_what_builds_is_taken_along(project: Path, tmp_path: Path) -> None:
    script = importlib.import_module("research_search")
    export_mlp(tmp_path / "out", script.build(MLP), build=script.build)
    source = tmp_path / "out" / "source"
    text = (source / "research_search.py").read_text()
    assert "# as wide as asked" in text and "SIZES.update" in text and "from supernets import stack" in text
    for absent in ("Tiny", "Supernet", "search_spaces", "manual_seed", "SystemExit", "nas", "space"):
        assert absent not in text
    assert {path.relative_to(source).as_posix() for path in source.rglob("*.py")} == {
        "research_search.py",
        "research/__init__.py",
        "research/activations.py",
        "research/blocks.py",
        "supernets/__init__.py",
        "supernets/structure.py",
    }


def test_code_that_needs_the_package_is_refused_by_name(project: Path, tmp_path: Path) -> None:
    script = importlib.import_module("research_search")
    with pytest.raises(ExportError, match=r"imports search_spaces\.Space, which is not there .*supernets\.structure"):
        export_mlp(tmp_path / "out", script.build(MLP), build=script.bad)
    assert not (tmp_path / "out").exists()


def test_two_exports_of_equal_names_load_side_by_side(project: Path, tmp_path: Path) -> None:
    script = importlib.import_module("research_search")
    export_mlp(tmp_path / "one", script.build(MLP), build=script.build)
    (project / "research" / "activations.py").write_text("from torch.nn import ReLU as activation\n")
    for name in [name for name in sys.modules if name.startswith("research")]:
        del sys.modules[name]
    script = importlib.import_module("research_search")
    export_mlp(tmp_path / "two", script.build(MLP), build=script.build)
    kinds = [{type(part).__name__ for part in loaded(tmp_path / name).modules()} for name in ("one", "two", "one")]
    assert ["Tanh" in kind for kind in kinds] == [True, False, True]
    assert sys.modules["research_search"] is script


def test_what_a_network_imports_when_it_runs_is_there(project: Path, tmp_path: Path) -> None:
    (project / "research" / "late.py").write_text(
        "from torch import nn\n"
        "class Late(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        from research.activations import activation\n"
        "        return activation()(super().forward(x))\n"
        "def build(arch):\n"
        "    return Late(4, 2)\n"
    )
    late = importlib.import_module("research.late")
    export_mlp(tmp_path / "out", late.build(MLP), build=late.build)
    code = "import load, torch; print(tuple(load.load()(torch.ones(3, 4)).shape))"
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.stdout == "(3, 2)\n", done.stderr


def test_a_load_that_fails_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    script = importlib.import_module("research_search")
    export_mlp(tmp_path / "out", script.build(MLP), build=script.build)
    edit(tmp_path / "out", lambda record: record["architecture"].update(widths=["wide", "wider"]))
    code = (
        "import contextlib, load, sys\n"
        "before = list(sys.meta_path), sorted(sys.modules)\n"
        "try: load.load()\n"
        "except TypeError: pass\n"
        "print(before[0] == sys.meta_path, [n for n in sys.modules if n.split('.')[0] in ('research', 'supernets')])"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.stdout == "True []\n", done.stdout + done.stderr


def test_pruning_keeps_what_is_reached_and_no_more() -> None:
    text = textwrap.dedent(
        """
        import os, sys as system
        try:
            import fast
        except ImportError:
            fast = None
        A, B = 1, 2
        C = A + 1
        def cache(f):
            return f
        @cache
        def inner(x: Missing) -> Missing:
            return C + x
        class Base: pass
        class Net(Base):
            size = inner(1)
            def run(self):
                return system.path, fast
        unused = os.environ
        Net.extra = B
        """
    )
    kept = prune(text, "Net")
    assert "os" not in kept.replace("import sys as system", "") and "unused" not in kept
    scope: dict = {}
    exec(kept, scope)  # no name is missing
    assert scope["Net"]().run()[1] is None and scope["Net"].size == 3 and scope["Net"].extra == 2


# Whole or absent


def test_a_changed_weight_is_found_on_loading(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out")
    path = tmp_path / "out" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match="does not match its SHA-256"):
        loaded(tmp_path / "out")


def edit(folder: Path, change: Callable[[dict], object], name: str = "architecture.json") -> None:
    """Change the record and put its hash right, as who wrote the folder could."""
    record = json.loads((folder / name).read_text())
    change(record)
    (folder / name).write_text(json.dumps(record))
    seal(folder)


def seal(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    sums = {path.relative_to(folder).as_posix(): _load.digest(path) for path in files}
    (folder / "SHA256SUMS").write_bytes(_load.written(sums))


@pytest.mark.parametrize("name", ["architecture.json", "load.py", "source/tests/supernets/export_networks.py"])
def test_what_loading_reads_is_compared(tmp_path: Path, name: str) -> None:
    export_mlp(tmp_path / "out")
    with (tmp_path / "out" / name).open("a") as file:
        file.write(" \n")
    with pytest.raises(RuntimeError, match=f"{name} does not match its SHA-256 in SHA256SUMS: export or copy it again"):
        loaded(tmp_path / "out")


def test_files_for_other_libraries_are_compared_by_name(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out", formats=("safetensors", "torch"))
    path = _load.checked("network.pt2", tmp_path / "out")
    assert torch.export.load(path).module()(EXAMPLE).shape == (2, 2)
    with path.open("ab") as file:
        file.write(b" ")
    with pytest.raises(RuntimeError, match=r"network.pt2 does not match its SHA-256"):
        _load.checked("network.pt2", tmp_path / "out")
    with pytest.raises(RuntimeError, match=r"does not name network.onnx"):
        _load.checked("network.onnx", tmp_path / "out")


def test_the_sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out")
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path / "out", capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK\n") == len(_load.manifest(tmp_path / "out"))


def test_a_fingerprint_tells_one_export_from_another(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out")
    known = _load.fingerprint_of(tmp_path / "out")
    assert _load.load(folder=tmp_path / "out", fingerprint=known)(EXAMPLE).shape == (2, 2)
    edit(tmp_path / "out", lambda record: record["metadata"].update(error=0.1))
    assert _load.load(folder=tmp_path / "out")
    with pytest.raises(RuntimeError, match=f"is another export: its fingerprint is [0-9a-f]*, not {known}"):
        _load.load(folder=tmp_path / "out", fingerprint=known)


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("os", "system"),
        ("subprocess", "run"),
        ("builtins", "exec"),
        ("tests.supernets.export_networks", "pairwise"),
        ("tests.supernets.export_networks", "torch.save"),
        ("tests.supernets.export_networks", "ConvNet.__init__.__globals__"),
        ("tests.supernets.export_networks", "torch.os.system"),
        ("tests.supernets.export_networks", "no_such_name"),
        ("tests.supernets", "export_networks.mlp"),
        ("tests.supernets.toy", "toy"),
        ("..load", "load"),
        ("", ""),
    ],
)
def test_only_what_the_source_defines_is_called(tmp_path: Path, module: str, qualname: str) -> None:
    export_mlp(tmp_path / "out")
    called = {"module": module, "qualname": qualname, "arguments": [f"touch {tmp_path}/executed"]}
    edit(tmp_path / "out", lambda record: record["build"].update(called))
    with pytest.raises(RuntimeError, match="is not defined by a file of source/, and no other is called"):
        loaded(tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_code_runs_from_what_was_compared_and_from_no_cache(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out")
    source = tmp_path / "out" / "source" / "tests" / "supernets" / "export_networks.py"
    other = tmp_path / "other.py"
    other.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n" + source.read_text())
    cache = Path(importlib.util.cache_from_source(str(source)))
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(other), str(cache), invalidation_mode=mode, doraise=True)
    assert loaded(tmp_path / "out") is not None
    (source.parent / "toy.py").write_text(other.read_text())
    with pytest.raises(RuntimeError, match=r"supernets/toy.py is not of this export: remove it"):
        loaded(tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_a_source_that_would_replace_a_module_of_python_is_refused(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out")
    (tmp_path / "out" / "source" / "torch.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    seal(tmp_path / "out")
    with pytest.raises(RuntimeError, match="source has a module torch, which is not its own"):
        loaded(tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_the_same_folder_loaded_again_runs_its_present_code(project: Path, tmp_path: Path) -> None:
    script = importlib.import_module("research_search")
    export_mlp(tmp_path / "out", script.build(MLP), build=script.build)
    activations = tmp_path / "out" / "source" / "research" / "activations.py"
    kinds = []
    for name in ("Tanh", "ReLU"):
        activations.write_text(f"from torch.nn import {name} as activation\n")
        seal(tmp_path / "out")
        kinds.append({type(part).__name__ for part in loaded(tmp_path / "out").modules()})
    assert "Tanh" in kinds[0] and "ReLU" in kinds[1] and "Tanh" not in kinds[1]


def test_an_earlier_export_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_mlp(out)
    (out / "stray").write_text("")
    export_mlp(out)
    assert not (out / "stray").exists() and (out / "load.py").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ExportError, match="is no earlier export"):
        export_mlp(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_a_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    export_mlp(tmp_path / "out")
    with pytest.raises(ExportError, match="differ"):
        export_mlp(tmp_path / "out", nn.Sequential(*mlp(MLP), nn.Softplus()))
    assert loaded(tmp_path / "out") is not None and len(list(tmp_path.iterdir())) == 1


def test_what_killed_exports_left_is_tidied(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    prefix = f".out.partial-{socket.gethostname()}-"
    for suffix in (f"{dead.pid}", f"{dead.pid}.old", f"{os.getppid()}"):
        (tmp_path / (prefix + suffix)).mkdir()
    (tmp_path / f"{prefix}{dead.pid}.old" / "architecture.json").write_text("{}")
    export_mlp(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{prefix}{os.getppid()}", "out"]


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from tests.supernets.test_export import export_case
print("begins", flush=True)
export_case("conv", __import__("pathlib").Path(sys.argv[2]))
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("seen", ["", "load.py", "network.pt2", "network.onnx"])
def test_a_killed_export_leaves_no_half_and_the_same_command_completes(
    tmp_path: Path, seen: str, earlier: bool
) -> None:
    out = tmp_path / "out"
    if earlier:
        export_mlp(out)
    before = (out / "architecture.json").read_bytes() if earlier else None
    command = [sys.executable, "-c", KILLED, str(ROOT), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not any((path / seen).exists() for path in tmp_path.glob(".out.partial-*")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if earlier:
        assert (out / "architecture.json").read_bytes() == before
    else:
        assert not out.exists()
    subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((out / "architecture.json").read_text())["architecture"]["is"] == "Conv"
    assert loaded(out) is not None
