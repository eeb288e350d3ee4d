"""Several processes that train together: each runs every pass of a step on its share of the batch.

All hold the same weights, optimiser and plan. What is exchanged is what a step sums: gradients, losses and, of networks
with batch norm, the statistics of the whole batch. Loss and gradients are those of one process with the whole batch, up
to rounding and the random numbers of dropout. The first of a team owns checkpoints, curves and progress; the others
begin with what it hands them.
"""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from supernets.calibrate import has_batch_norm
from supernets.checkpoints import Checkpoint
from supernets.errors import SupernetError
from supernets.store import Touched
from supernets.tasks import Task, evaluating
from supernets.tasks.batches import mapped, tensors_in

MEETING_S = 60.0
_PATIENCE = timedelta(days=1)  # while the first evaluates, the others wait; whoever has died is noticed at once


class TeamError(SupernetError):
    """Training processes did not connect, lost one of them, or cannot share this training."""


class LostError(TeamError):
    """Another worker has disconnected."""


@dataclass(frozen=True)
class Part:
    """This worker's part of a batch."""

    batch: Any
    share: float = 1.0
    """Factor of this part's loss in the task's loss of the whole batch."""
    examples: float = 1.0
    """This part's share of the examples."""


class Team:
    """This process among those that train together. Made without a group it is alone, and nothing is exchanged."""

    def __init__(self, group: Any = None, rank: int = 0, size: int = 1) -> None:
        self._group, self.rank, self.size = group, rank, size

    @staticmethod
    def meet(place: Path | str, rank: int, size: int, host: str = "127.0.0.1", within_s: float = MEETING_S) -> Team:
        """The team of all that call this with the same place.

        Args:
            place: a file that is not there yet, in a folder that all of them see.
            host: an address of the first one's machine, from which follows the interface that each listens on.

        Raises:
            TeamError: not all were there in time.
        """
        try:
            store = dist.FileStore(str(place), size)  # type: ignore[attr-defined]
            store.set(f"here {rank}", "")
            store.wait([f"here {one}" for one in range(size)], timedelta(seconds=within_s))
            options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
            options._devices = [dist.ProcessGroupGloo.create_device(hostname=_own_address(host))]
            options._timeout = _PATIENCE
            return Team(dist.ProcessGroupGloo(store, rank, size, options), rank, size)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            remedy = f"all must see the folder of {place} and reach {host} over the network"
            raise TeamError(f"{size} training workers did not meet within {within_s:g} s ({why}): {remedy}") from error

    def leave(self) -> None:
        """Lets go of the others, who then find that this one is gone."""
        self._group = None

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    # --- the batch

    def part(self, batch: Any, task: Task) -> Part:
        """One's own share of a batch.

        Raises:
            TeamError: it has fewer examples than there are workers, or does not consist of examples.
        """
        return Part(batch) if self.alone else self._part(batch, task, self.rank)

    def own(self, number: int) -> slice:
        """Return this worker's slice of so many examples."""
        return self._slice(number, self.rank)

    def check(self, network: nn.Module, task: Task, batch: Any) -> None:
        """Makes sure that a network's loss of a batch is what those of its parts add up to, as a mean over examples is.

        Raises:
            TeamError: it is not.
        """
        if self.alone:
            return
        with evaluating(network):
            whole = float(task.loss(task.outputs(network, batch), batch))
            parts = [self._part(batch, task, rank) for rank in range(self.size)]
            summed = sum(part.share * float(task.loss(task.outputs(network, part.batch), part.batch)) for part in parts)
        if not abs(whole - summed) <= 1e-4 * max(1.0, abs(whole)):
            raise TeamError(
                f"the task {task.name!r} has a loss of {whole:.6g} on a batch, and its parts add up to {summed:.6g}: "
                "several training workers need a loss that is a mean over examples, or a task with share(part, whole), "
                "the factor of a part's loss in that of the whole batch"
            )

    def _part(self, batch: Any, task: Task, rank: int) -> Part:
        lengths = {len(tensor) for tensor in tensors_in(batch) if tensor.dim()}
        if len(lengths) != 1:
            raise TeamError(
                f"a batch of the task {task.name!r} has tensors of {sorted(lengths)} rows: workers share it by "
                "its examples, a row each; make it so, or train with one worker"
            )
        number = lengths.pop()
        if number < self.size:
            raise TeamError(
                f"a batch of {number} examples cannot be shared by {self.size} training workers: take fewer of them or "
                "a larger batch"
            )
        own = self._slice(number, rank)
        part = mapped(batch, lambda tensor: tensor[own] if tensor.dim() else tensor)
        examples = (own.stop - own.start) / number
        share = getattr(task, "share", None)
        return Part(part, examples if share is None else share(part, batch), examples)

    def _slice(self, number: int, rank: int) -> slice:
        return slice(rank * number // self.size, (rank + 1) * number // self.size)

    # --- what is summed

    def sum_gradients(self, index: int, touched: Sequence[Touched]) -> None:
        """Makes the gradients of step `index` the sums of all workers', the same bits in each.

        Raises:
            TeamError: they have touched different parameters.
        """
        if self.alone:
            return
        seen = zlib.crc32(repr([(one.name, one.box, tuple(one.grad.shape)) for one in touched]).encode())
        if len(set(self._gathered(torch.tensor([seen])).flatten().tolist())) > 1:
            raise TeamError(
                f"training workers have touched different parameters in step {index}: networks that run other modules "
                "for other examples need one worker"
            )
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for one in touched:
            by_type.setdefault(one.grad.dtype, []).append(one.grad)
        for grads in by_type.values():
            flat = torch.cat([grad.reshape(-1) for grad in grads])
            self._sum(flat)
            for grad, summed in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
                grad.copy_(summed.view(grad.shape))

    def total(self, values: Tensor) -> Tensor:
        """Return the sums over all workers."""
        if not self.alone:
            self._sum(values := values.double())
        return values

    def joined(self, values: npt.NDArray[np.float64], number: int) -> npt.NDArray[np.float64]:
        """Return the values of all `number` examples, from this worker's values (n,)."""
        if self.alone:
            return values
        whole = torch.zeros(number, dtype=torch.float64)
        whole[self.own(number)] = torch.from_numpy(values)
        self._sum(whole)
        return np.asarray(whole.numpy())

    def normalising(self, network: nn.Module) -> AbstractContextManager[object]:
        """Make batch norm in training mode use the statistics of the whole batch, within the context."""
        return nullcontext() if self.alone or not has_batch_norm(network) else _WholeBatchNorm(self)

    def _sum(self, tensor: Tensor) -> None:
        self._group.allreduce([tensor]).wait()

    def _gathered(self, tensor: Tensor) -> Tensor:
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        self._group.allgather([found], [tensor]).wait()
        return torch.stack(found)

    # --- the beginning and the end

    def hand_out(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], step: int) -> Checkpoint:
        """What the first begins with, to all."""
        content = b""
        if self.first:
            held = {name: tensor.contiguous() for name, tensor in tensors.items()}
            content = save(held, {"meta": json.dumps({"step": step, **meta})})
        length = torch.tensor([len(content)])
        self._group.broadcast(length, 0).wait()
        data = torch.frombuffer(bytearray(content or bytes(int(length))), dtype=torch.uint8)
        self._group.broadcast(data, 0).wait()
        content = data.numpy().tobytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        read = json.loads(header["__metadata__"]["meta"])
        return Checkpoint(read.pop("step"), load(content), read, [])

    @contextmanager
    def complete(self) -> Iterator[None]:
        """Within, the loss of a worker ends in one line.

        Raises:
            LostError: another worker is gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.alone or isinstance(error, SupernetError) or "gloo" not in str(error):
                raise
            raise LostError(
                "a training worker is gone: give the same command again, and the training goes on from its last "
                "checkpoint"
            ) from error


ALONE = Team()


def _own_address(host: str) -> str:
    """The address of this machine that a machine is reached from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])


# --- batch norm -----------------------------------------------------------------------------------------------------


class _Sum(torch.autograd.Function):
    """The sum over all workers, by which each one's loss has a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, team: Team) -> Tensor:
        ctx.team = team
        summed = tensor.clone(memory_format=torch.contiguous_format)
        team._sum(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        summed = grads[0].clone(memory_format=torch.contiguous_format)
        ctx.team._sum(summed)
        return summed, None


class _WholeBatchNorm(TorchFunctionMode):
    """`F.batch_norm` in training mode with the mean and variance of all workers' examples."""

    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team = team

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is nn.functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return nn.functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [axis for axis in range(x.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        count = self._team.total(torch.tensor([x.numel() / x.shape[1]]))
        mean = _Sum.apply(x.sum(others), self._team) / float(count)  # type: ignore[no-untyped-call]
        centred = x - mean.view(shape)
        var = _Sum.apply(centred.square().sum(others), self._team) / float(count)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            if running_mean is not None and running_var is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * float(count / (count - 1))).to(running_var.dtype), momentum)
        normed = centred * (var + eps).rsqrt().view(shape)
        normed = normed if weight is None else normed * weight.view(shape)
        shifted: Tensor = normed if bias is None else normed + bias.view(shape)
        return shifted.to(input.dtype)
