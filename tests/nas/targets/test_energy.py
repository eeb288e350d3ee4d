"""Counters of energy, as files of a made-up machine and as a module of a made-up GPU."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.targets.energy import energy_mj, nvml, rapl


def package(root: Path, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = package(tmp_path, "intel-rapl:0", 1000), package(tmp_path, "intel-rapl:1", 900_000)
    package(tmp_path, "intel-rapl:0:0", 5)  # cores, within the first
    counter = rapl(tmp_path)
    assert counter is not None
    before = counter.read()
    (first / "energy_uj").write_text("4000")
    (second / "energy_uj").write_text("100000")  # has begun again
    assert counter.used_mj(before, counter.read()) == pytest.approx(3 + 200)


def test_a_machine_without_counters_tells_nothing(tmp_path: Path) -> None:
    assert rapl(tmp_path / "absent") is None and rapl(tmp_path) is None
    (package(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    assert rapl(tmp_path) is None, "a counter that may not be read is none"
    assert energy_mj(lambda: None, None, lambda: 0.0) is None


def test_a_gpu_is_found_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def handle(uuid: str) -> str:
        if uuid != "GPU-1":
            raise NVMLError
        return "first"

    energy = {"first": 5000}
    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=energy.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    counter = nvml("GPU-1")
    assert counter is not None
    before = counter.read()
    energy["first"] = 5600
    assert counter.used_mj(before, counter.read()) == 600
    assert nvml("GPU-2") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml("GPU-1") is None
