"""Builds the wheel and the source distribution into dist/ and checks them: `make dist`.

Checked are contents, size, and that each installs into an empty environment where a small search runs. What is
installed there comes from the index that pip or uv is set up for.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 2_000_000
PACKAGES = ("search_spaces", "supernets", "nas", "dashboard")
SMALL = """
from dataclasses import replace
import nas
from nas.examples import run_file
from nas.run_file import load
run = load(run_file("tabular"))
run = replace(run, training=replace(run.training, steps=20), evaluations=10, trust_networks=3, trust_steps=2)
print(len(nas.search(run).front), "networks on the front")
"""


def wanted() -> list[str]:
    """What each distribution must hold: every file of the packages that is not made by Python itself."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return sorted(p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts)


def held(file: Path) -> list[str]:
    """The files of a wheel or of a source distribution, without the folder around the latter's."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            return wheel.namelist()
    with tarfile.open(file) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def problems(file: Path) -> list[str]:
    """What is wrong with a distribution; empty where nothing is."""
    found = [f"{name} is missing" for name in wanted() if name not in set(held(file))]
    found += [f"{name} does not belong there" for name in held(file) if "__pycache__" in name or name.endswith(".db")]
    size = file.stat().st_size
    return found + ([f"{size:,} bytes are more than {MOST_BYTES:,}"] if size > MOST_BYTES else [])


def installs(file: Path) -> None:
    """Installs a distribution into an empty environment and searches there, away from the sources."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(python.parents[1])])
        run([sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), str(file)])
        run([str(python.with_name("nas")), "demo", "--help"], folder)
        run([str(python), "-c", SMALL], folder)


def run(command: list[str], folder: Path | str = ROOT) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NAS_STORAGE")}
    subprocess.run(command, cwd=folder, check=True, env=with_pips_places(environment))


def with_pips_places(environment: dict[str, str]) -> dict[str, str]:
    """uv reads none of pip's variables: hand over folders, indexes and the certificate, as .ci/setup does."""
    pairs = {"PIP_FIND_LINKS": "UV_FIND_LINKS", "PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_CERT": "SSL_CERT_FILE"}
    return {theirs: environment[name] for name, theirs in pairs.items() if environment.get(name)} | environment


def main() -> None:
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would take along what an earlier one left there
    run([sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(target)])
    for file in sorted(target.glob("nas-*")):
        if wrong := problems(file):
            sys.exit(f"error: {file.name}: {'; '.join(wrong)}")
        installs(file)
        print(f"{file.name}: {file.stat().st_size:,} bytes, complete, installs and searches")


if __name__ == "__main__":
    main()
