"""Logs as JSON: what happened is in the file, and stderr stays as it is without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.nas.command import variant


def test_a_search_tells_a_file_what_happens_and_stderr_no_more_than_before(tmp_path: Path) -> None:
    run_file = variant(tmp_path, "evaluations=6, trust=0")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(folder) for folder in sys.path)}
    command = [sys.executable, "-m", "nas", "--quiet", "--log-json", "log.jsonl", "search", str(run_file)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines)
    evaluations = [line for line in lines if line["logger"] == "nas.study" and "error=" in line["message"]]
    assert len(evaluations) == 6
    before = len(lines)
    missing = [*command[:-2], "show", "nothing"]
    assert subprocess.run(missing, cwd=tmp_path, env=environment, capture_output=True).returncode == 1
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) >= before, "lines are added"
