"""One bit flipped anywhere in what a run leaves on the disk is found by whoever reads that file, and by `nas check`."""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from nas.commands.check import check
from nas.errors import NasError
from supernets import checkpoints, export
from supernets._load import SUMS, checked
from tests.faults.written import CHECKPOINTS, EXPORT, content, cuts, flips, run_folder

OPENED_ELSEWHERE = (".pt2", ".onnx")  # by torch and ONNX Runtime, once load.checked has compared the file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("run"))


def found_by_its_reader(folder: Path, path: Path) -> bool:
    """Whether reading says so: a checkpoint does not count, an export is refused."""
    name = path.relative_to(folder).as_posix()
    if name.startswith(CHECKPOINTS):
        newest = checkpoints.newest(folder / CHECKPOINTS)
        if "2." in path.name:
            return newest.step == 1 and len(newest.rejected) == 1 and path.name in newest.rejected[0]
        assert newest.step == 2  # the older one is not read where the newer is whole
        return checkpoints.check(folder / CHECKPOINTS)[path.name] is not None
    opened = [path.name] if path.suffix in OPENED_ELSEWHERE else []
    if path.name == SUMS:  # which all of them read
        opened = [other.name for other in folder.glob(f"{EXPORT}/*") if other.suffix in OPENED_ELSEWHERE]
    if any(refused(partial(checked, name, folder / EXPORT), RuntimeError) for name in opened):
        return True
    return path.suffix not in OPENED_ELSEWHERE and refused(lambda: export.rebuilt(folder / EXPORT), export.ExportError)


def found_by_check(folder: Path, path: Path) -> bool:
    name = path.relative_to(folder / EXPORT).as_posix() if EXPORT in path.parts else path.name
    place = folder / path.relative_to(folder).parts[0]
    found = export.check(place) if place.name == EXPORT else checkpoints.check(place)
    wrong = {file for file, why in found.items() if why}
    return bool(wrong) if name == SUMS else wrong == {name}


def refused(call, error: type[Exception]) -> bool:
    try:
        call()
    except error as refusal:
        return "\n" not in str(refusal)
    return False


def missed(folder: Path, damages: Iterable[tuple[Path, bytes]]) -> tuple[int, Counter[str]]:
    """How many there were, and which went unseen by a reader or by the check."""
    number, unseen = 0, Counter[str]()
    for path, damaged in damages:
        number += 1
        with content(path, damaged):
            if not (found_by_its_reader(folder, path) and found_by_check(folder, path)):
                unseen[path.relative_to(folder).as_posix()] += 1
    return number, unseen


def test_sixty_flipped_bits_are_found(folder: Path) -> None:
    assert missed(folder, flips(folder, 60, seed=1)) == (60, {})


def test_files_that_end_too_soon_are_found(folder: Path) -> None:
    assert missed(folder, cuts(folder, 30, seed=2)) == (30, {})


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_found(folder: Path) -> None:
    assert missed(folder, flips(folder, 1_000, seed=3)) == (1_000, {})


@pytest.mark.slow
def test_five_hundred_cuts_are_found(folder: Path) -> None:
    assert missed(folder, cuts(folder, 500, seed=4)) == (500, {})


def test_what_is_whole_is_found_whole(folder: Path) -> None:
    check(folder)
    assert checkpoints.newest(folder / CHECKPOINTS).step == 2 and export.rebuilt(folder / EXPORT) is not None


def test_the_command_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, damaged in flips(folder, 10, seed=5):
        with content(path, damaged), pytest.raises(NasError, match="differ, "):
            check(folder)
        name = path.relative_to(folder).as_posix()
        assert f"{name}: as it was written\n" not in capsys.readouterr().out
