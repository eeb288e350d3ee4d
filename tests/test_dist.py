"""What is released: a wheel that holds all of the packages, and the files that open projects have."""

import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIST = runpy.run_path(str(ROOT / ".ci" / "dist.py"), run_name="dist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the project's own backend from a copy, since that writes beside the sources."""
    pytest.importorskip("setuptools", minversion="77", reason="the build backend")
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in DIST["PACKAGES"]:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(built)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    return next(built.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_packages_and_is_small(wheel: Path) -> None:
    assert DIST["problems"](wheel) == []
    held = DIST["held"](wheel)
    for name in ("nas/py.typed", "nas/examples/tabular.py", "nas/migrations/versions/v0001_first_tables.py"):
        assert name in held
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == set(DIST["PACKAGES"])


def test_a_file_that_is_missing_is_named(wheel: Path, tmp_path: Path) -> None:
    smaller = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != "nas/py.typed":
                new.writestr(name, old.read(name))
    assert DIST["problems"](smaller) == ["nas/py.typed is missing"]


def test_the_version_to_cite_is_the_packages() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Ray and with mkdocs")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_public_ci_runs_what_ours_runs_on_two_versions_that_the_package_allows() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Ray and with mkdocs")
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands:
        target = command.removeprefix("make ")
        assert command == ".ci/run" or f"\n{target}:" in targets, command
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text(encoding="utf-8")), form
