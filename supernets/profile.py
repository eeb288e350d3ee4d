"""What a network costs, counted on the meta device: nothing is computed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from supernets.errors import SupernetError


@dataclass(frozen=True)
class Profile:
    """The cost of one network.

    Attributes:
        params: parameters, tied ones once.
        macs: multiply-accumulates of one example (matrix products, convolutions, attention).
        activation_bytes: what one forward pass over the given batch keeps for backward, parameters left out.
    """

    params: int
    macs: int
    activation_bytes: int


def profile_network(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Profile:
    """Count what ``module`` costs on ``example``, whose first axis is the batch. The module is moved to meta.

    Raises:
        SupernetError: the module's forward needs values, which meta tensors do not have.
    """
    inputs = tuple(tensor.to("meta") for tensor in (example if isinstance(example, tuple) else (example,)))
    module = module.to("meta").eval()
    parameters = {id(parameter): parameter.numel() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(tensor, nn.Parameter) and id(tensor) not in parameters and id(base) not in parameters:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = max(kept.get(storage._cdata, 0), tensor.numel() * tensor.element_size())
        return tensor

    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module(*inputs)
    except (NotImplementedError, RuntimeError) as error:
        raise SupernetError(
            f"cannot profile {type(module).__name__} on shapes alone: {str(error).splitlines()[0]}; its forward must "
            "not depend on values, and plain tensor attributes should be registered as buffers"
        ) from error
    batch = inputs[0].shape[0]
    return Profile(sum(parameters.values()), counter.get_total_flops() // 2 // batch, sum(kept.values()))
