"""Files and names made to harm: each is refused in one line, and none makes anything run."""

import json
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.errors import NasError
from nas.fidelity.ledger import Ledger
from nas.predictors import stored
from nas.searchers import RandomSearch
from nas.storage import Repository
from nas.study import Study
from nas.targets.table import TableTarget
from nas.targets.target import TargetError
from search_spaces import Architecture, NASBench201Space, SpaceError
from supernets import _load, checkpoints, export, weight_files
from supernets.weight_files import WeightsError
from tests.faults.written import edit, seal
from tests.nas.command import Nas, caller
from tests.nas.test_study import Tiny, tiny
from tests.supernets.test_export import export_mlp

RAN = "executed"
DEEP = "[" * 100_000
NESTED: dict[str, Any] = {}
for _ in range(500):
    NESTED = {"is": "A", "inner": NESTED}


class Payload:
    """What unpickling would run: a command that leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {RAN}",)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each test is in an empty folder, and no payload has left its file there when it ends."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob(RAN))


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


def pickled() -> bytes:
    return pickle.dumps(Payload())


def torch_file() -> bytes:
    torch.save({"a": Payload()}, "made.pt")
    content = Path("made.pt").read_bytes()
    Path("made.pt").unlink()
    return content


CONTENTS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "noise": lambda: bytes(range(256)) * 9,
    "a pickle": pickled,
    "a file of torch.save": torch_file,
    "deep JSON": DEEP.encode,
    "a list": lambda: b"[]",
    "null": lambda: b"null",
    "a number of a million digits": lambda: b"9" * 1_000_000,
    "not UTF-8": lambda: b'{"a": "\xff\xfe"}',
    "a header of exabytes": lambda: b"\xff" * 8 + b"{}",
    "a header beyond the file": lambda: (2**20).to_bytes(8, "little") + b"{}",
    "a header that is deep": lambda: (100_000).to_bytes(8, "little") + DEEP.encode(),
    "tensors that overlap nothing": lambda: (lambda header: len(header).to_bytes(8, "little") + header)(
        b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'
    ),
    "a shape that overflows": lambda: (lambda header: len(header).to_bytes(8, "little") + header)(
        b'{"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,4]}}'
    ),
}


def one_line(call: Callable[[], object], *kinds: type[Exception]) -> str:
    """The message of what a call raises, which is one of these and one line."""
    with pytest.raises(kinds) as caught:
        call()
    assert type(caught.value) in kinds and "\n" not in str(caught.value) and len(str(caught.value)) < 1_000
    return str(caught.value)


def test_the_payload_would_run() -> None:
    pickle.loads(pickled())
    assert Path(RAN).exists()
    Path(RAN).unlink()


# --- exports


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", ["SHA256SUMS", "architecture.json", "weights.safetensors"])
def test_files_of_an_export_with_another_content(nas_: Nas, name: str, make: Callable[[], bytes]) -> None:
    export_mlp(Path("mine"))
    Path("mine", name).write_bytes(make())
    if name != "SHA256SUMS":
        seal(Path("mine"))
    assert "mine" in one_line(lambda: export.rebuilt("mine"), export.ExportError)
    status, _, err = nas_("check", "mine")
    assert "Traceback" not in err and status == (1 if name == "SHA256SUMS" else 0)


RECORDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no build": lambda record: record.pop("build"),
    "a build that is a list": lambda record: record.update(build=["os", "system"]),
    "no arguments": lambda record: record["build"].pop("arguments"),
    "arguments that are text": lambda record: record["build"].update(arguments="rm"),
    "keywords that are a list": lambda record: record["build"].update(keywords=[1]),
    "unknown keywords": lambda record: record["build"].update(keywords={"nonsense": 1}),
    "another function": lambda record: record["build"].update(
        module="os", qualname="system", arguments=[f"touch {RAN}"]
    ),
    "a module outside": lambda record: record["build"].update(module="../../../outside"),
    "a path as a module": lambda record: record["build"].update(module="/tmp/outside"),
    "a module of lines": lambda record: record["build"].update(module="a\nb"),
    "a module of thousands of letters": lambda record: record["build"].update(module="a" * 5_000),
    "a size of thousands of bits": lambda record: record["architecture"].update(widths=[10**400, 7]),
    "a dunder path": lambda record: record["build"].update(qualname="mlp.__globals__.__getitem__"),
    "no architecture": lambda record: record.pop("architecture"),
    "an architecture that is a list": lambda record: record.update(architecture=[1]),
    "a deep architecture": lambda record: record.update(architecture=NESTED),
    "another architecture": lambda record: record["architecture"].update(widths=[1, 1]),
    "widths that are negative": lambda record: record["architecture"].update(widths=[-1, 7]),
    "widths that are huge": lambda record: record["architecture"].update(widths=[2**62, 2**62]),
    "no weights": lambda record: record.pop("weights"),
    "tied that is a list": lambda record: record["weights"].update(tied=[]),
    "tied to nothing": lambda record: record["weights"].update(tied={"x": "nonsense"}),
    "tied into nowhere": lambda record: record["weights"].update(tied={"no.such.module": "0.0.weight"}),
    "tied to a list": lambda record: record["weights"].update(tied={"x": [1]}),
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_records_of_an_export_that_say_something_else(change: Callable[[dict[str, Any]], object]) -> None:
    export_mlp(Path("mine"))
    edit(Path("mine"), change)
    one_line(lambda: export.rebuilt("mine"), export.ExportError)


SUMS: dict[str, Callable[[str], str]] = {
    "a file above": lambda text: text + "0" * 64 + "  ../../../../etc/passwd\n",
    "an absolute file": lambda text: text + "0" * 64 + "  /etc/passwd\n",
    "a file named twice": lambda text: text + text.splitlines(keepends=True)[-1],
    "another order": lambda text: "".join(reversed(text.splitlines(keepends=True))),
    "upper case": str.upper,
    "ends of lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "a line of nothing": lambda text: text + "\n",
    "no last end of line": lambda text: text[:-1],
    "a control character": lambda text: text.replace("load.py", "load\x1b.py"),
    "twenty megabytes": lambda text: text * (20 * 2**20 // len(text)),
}


@pytest.mark.parametrize("change", SUMS.values(), ids=SUMS)
def test_sums_that_no_export_writes(nas_: Nas, change: Callable[[str], str]) -> None:
    export_mlp(Path("mine"))
    Path("mine/SHA256SUMS").write_text(change(Path("mine/SHA256SUMS").read_text()), newline="")
    assert "SHA256SUMS" in one_line(lambda: export.rebuilt("mine"), export.ExportError)
    status, out, _ = nas_("check", "mine")
    assert status == 1 and "passwd" not in out


@pytest.mark.parametrize("name", ["SHA256SUMS", "architecture.json", "weights.safetensors", "load.py"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)], ids=["pipe", "folder", "loop"]
)
def test_what_is_no_file_is_not_waited_for(nas_: Nas, name: str, make: Callable[[Path], object]) -> None:
    export_mlp(Path("mine"))
    Path("mine", name).unlink()
    make(Path("mine", name))
    one_line(lambda: export.rebuilt("mine"), export.ExportError)
    status, out, _ = nas_("check", "mine")
    assert status == 1 and f"{name}: is not there\n" in out


@pytest.mark.parametrize("shape", [(5, 4), (1,), (0,)])
def test_weights_of_another_shape(shape: tuple[int, ...]) -> None:
    export_mlp(Path("mine"))
    weights = load_file("mine/weights.safetensors") | {"0.0.bias": torch.ones(*shape)}
    save_file(weights, "mine/weights.safetensors")
    seal(Path("mine"))
    assert "does not fit what source/ builds" in one_line(lambda: export.rebuilt("mine"), export.ExportError)


# --- checkpoints


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("end", ["json", "safetensors"])
def test_checkpoints_with_another_content_leave_the_one_before(nas_: Nas, end: str, make: Callable[[], bytes]) -> None:
    for step in (1, 2):
        path = checkpoints.write("run/supernet", step, {"a": torch.full((3,), float(step))}, {})
    path.with_suffix(f".{end}").write_bytes(make())
    if end == "safetensors":  # under a record that agrees
        record = json.loads(path.read_text()) | {"tensors": _load.digest(path.with_suffix(".safetensors"))}
        path.write_text(checkpoints._seal({name: value for name, value in record.items() if name != "sha256"}))
    found = checkpoints.newest("run/supernet")
    assert found.step == 1 and torch.equal(found.tensors["a"], torch.ones(3)) and len(found.rejected) == 1
    status, out, err = nas_("check", "run")
    assert status == 1 and f"step-000000002.{end}: is " in out and err.count("\n") == 1


# --- weights that are handed over


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
def test_weights_with_another_content(name: str, make: Callable[[], bytes]) -> None:
    Path(name).write_bytes(make())
    one_line(lambda: dict(weight_files.source(Path()).read()), WeightsError)
    one_line(lambda: dict(weight_files.source(Path(name)).read()), WeightsError)


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
def test_models_to_propose_a_space_for_with_another_config(nas_: Nas, make: Callable[[], bytes]) -> None:
    Path("config.json").write_bytes(make())
    status, out, err = nas_("propose", ".")
    assert (status, out, err.count("\n")) == (1, "", 1), err


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoConfig": "made.Config", "AutoModel": "made.Model"}, "model_type": "made"},
        {"auto_map": {"AutoConfig": "made.Config"}, "model_type": "bert", "architectures": ["Model"]},
        {"model_type": "bert", "architectures": ["../../made"]},
        {"model_type": "bert", "architectures": [5]},
        {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": "large"},
        {"model_type": ["bert"]},
    ],
)
def test_a_config_names_no_code_that_runs(nas_: Nas, config: dict[str, Any]) -> None:
    Path("made.py").write_text(f"open({RAN!r}, 'w')\n")
    Path("config.json").write_text(json.dumps(config))
    status, out, err = nas_("propose", ".")
    assert (status, out, err.count("\n")) == (1, "", 1), err


def test_a_folder_whose_name_is_code_is_only_a_name(nas_: Nas) -> None:
    folder = Path(f'"""+open("{RAN}", "w").name+"""')
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 11, **sizes})
    )
    status, out, err = nas_("propose", folder)
    assert (status, err) == (0, "") and '"""Smaller networks within BertModel of open-executed-w-.name.' in out


# --- JSON and lines of JSON


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
def test_json_of_other_kinds(make: Callable[[], bytes]) -> None:
    text = make().decode("utf-8", "replace")
    one_line(lambda: Architecture.from_json(text), SpaceError)
    one_line(lambda: NASBench201Space().architecture(text), SpaceError)
    one_line(lambda: stored.loads(text, NASBench201Space()), NasError)


@pytest.mark.parametrize("make", CONTENTS.values(), ids=CONTENTS)
def test_lines_of_json_of_other_kinds(make: Callable[[], bytes]) -> None:
    content = make()
    Path("ledger.jsonl").write_bytes(content.replace(b"\n", b" ") + b"\n")
    if content:
        one_line(lambda: Ledger("ledger.jsonl"), NasError)
    example, network = torch.ones(1, 4), torch.nn.Linear(4, 1)
    arch = Architecture("A", {"width": 8})
    for name in ("table.jsonl", "table.csv"):
        Path(name).write_bytes(content)
        one_line(lambda: TableTarget(path=name).measure([network], example, [arch]), TargetError)  # noqa: B023


# --- names


NAMES = {
    "of a terminal's control": "\x1b]0;owned\x07\x1b[31m",
    "of lines": "a\nerror: b",
    "of SQL": "x'; drop table studies; --",
    "of markup": "[red]x[/red] [link=file:///etc/passwd]y[/link]",
    "of a path": "../../../../etc/passwd",
    "of a shell": f"$(touch {RAN}); `touch {RAN}`",
    "of a hundred thousand letters": "x" * 100_000,
    "of half a letter": "x\udc80",
    "of the other direction": "\u202efdp.exe",
}
NAMED = (
    ("front", "{}"),
    ("show", "{}"),
    ("show", "known", "{}"),
    ("compare", "known", "{}", "{}"),
    ("export", "{}", "--to", "out"),
    ("resume", "{}"),
    ("finetune", "{}", "--to", "out"),
    ("front", "known", "--where", "{} <= 1"),
    ("front", "known", "--target", "{}"),
    ("target", "add", "{}", "nonsense"),
    ("check", "{}"),
    ("search", "{}"),
    ("propose", "{}"),
    ("tune", "{}"),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One with a study called "known", and studies of all these names that a study may have."""
    url = f"sqlite:///{tmp_path_factory.mktemp('names')}/nas.db"
    with Repository(url) as repository:
        for name in ("known", *NAMES.values()):
            with suppress(NasError):
                Study(name, Tiny(), tiny, ("error", "params"), repository, searcher=RandomSearch).run(4)
        assert {study.name for study in repository.studies()} >= {"known"}
    return url


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("command", NAMED, ids=" ".join)
def test_names_of_the_command_line(
    nas_: Nas, monkeypatch: pytest.MonkeyPatch, database: str, command: tuple[str, ...], name: str
) -> None:
    monkeypatch.setenv("NAS_STORAGE", database)
    status, out, err = nas_(*(word.replace("{}", name) for word in command))
    assert (status, err) == (0, "") or (status == 1 and err.count("\n") == 1), (status, out, err)
    assert not [one for one in out + err if not one.isprintable() and one != "\n"]


@pytest.mark.parametrize("command", ["studies", "studies --json", "target list", "front known", "front known --csv"])
def test_names_of_the_database(nas_: Nas, database: str, command: str) -> None:
    status, out, err = nas_(*command.split(), "--storage", database)
    assert (status, err) == (0, "")
    assert not [one for one in out if not one.isprintable() and one != "\n"]
