"""`--trainers`: processes, or actors of Ray, that train a supernet together, and what is told when one is lost."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from supernets import checkpoints
from tests.nas.command import Nas, caller, variant

SGD = "training=replace(tiny.run.training, optimizer='sgd')"

# A worker that is not the driver ends in some way at step 25, once.
ENDING = """
import os, signal
from pathlib import Path
driver, ended = Path(__file__).with_name("driver"), Path(__file__).with_name("ended")
if not driver.exists():
    driver.write_text(str(os.getpid()))
class Ending(tiny.Classification):
    def batch(self, step, seed):
        if step == 25 and not ended.exists() and driver.read_text() != str(os.getpid()):
            ended.touch()
            {how}
        return super().batch(step, seed)
splits = {{name: (examples.inputs, examples.targets) for name, examples in tiny.run.task.splits.items()}}
task = Ending(**splits, batch_size=tiny.run.task.batch_size, name=tiny.run.task.name)
"""


@pytest.fixture
def nas_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def weights(name: str) -> dict[str, Tensor]:
    found = checkpoints.newest(Path("runs") / name / "supernet")
    assert found.step == 40
    return {key: tensor for key, tensor in found.tensors.items() if key.startswith("weights.")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_two_trainers_train_as_one_does(tmp_path: Path, nas_: Nas) -> None:
    path = variant(tmp_path, SGD)
    assert nas_("train", path, "--name", "one").status == 0
    told = nas_("train", path, "--trainers", "2", "--name", "two")
    assert told.status == 0, told.err
    one, two = weights("one"), weights("two")
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-4, atol=1e-5)
    assert not same(one, two), "two have summed in another order"
    assert sorted(os.listdir("runs/two")) == ["supernet"], "nothing is left of the meeting"
    again = nas_("train", path, "--trainers", "2", "--name", "two")
    assert again.status == 0 and "found trained" in again.out


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, told",
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed, as a system does"),
        ("raise ArithmeticError('of the data')", "ArithmeticError: of the data"),
    ],
)
def test_a_lost_trainer_ends_the_training_in_one_line_and_it_goes_on_with_the_same_bits(
    how: str, told: str, tmp_path: Path, nas_: Nas
) -> None:
    path = variant(tmp_path, f"task=task, {SGD}", ENDING.format(how=how))
    status, _, err = nas_("train", path, "--trainers", "2", "--name", "cut")
    assert status == 1 and told in err and "a training worker is gone: give the same command again" in err
    assert "Traceback" not in err and (tmp_path / "ended").exists()
    assert checkpoints.newest(Path("runs") / "cut" / "supernet").step == 20
    told_again = nas_("train", path, "--trainers", "2", "--name", "cut")
    assert told_again.status == 0 and "went on from step 20 to 40" in told_again.out
    assert nas_("train", path, "--trainers", "2", "--name", "whole").status == 0
    assert same(weights("cut"), weights("whole"))


@pytest.mark.slow
# Ray's client leaves sockets and files for the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")
def test_on_ray_they_end_with_the_bits_of_processes(tmp_path: Path, nas_: Nas) -> None:
    pytest.importorskip("ray", reason="ray is an extra")
    path = variant(tmp_path, SGD)
    assert nas_("train", path, "--trainers", "2", "--name", "processes").status == 0
    told = nas_("train", path, "--trainers", "2", "--cluster", "local", "--name", "ray")
    assert told.status == 0, told.err
    assert same(weights("processes"), weights("ray"))
