"""Parameters of one library in the other, by the names that both give to modules."""

import numpy as np
import torch
from torch import Tensor, nn

Params = dict  # nested, as Flax has them; leaves are arrays


@torch.no_grad()
def load(module: nn.Module, params: Params) -> None:
    """Gives a module its part of the parameters of ours.

    Raises:
      KeyError, RuntimeError: ours has no such parameter, or of another shape.
    """
    of_ours = flat(params)
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.tensor(_as_torch(name, of_ours[_ours(name)])))


def dump(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's parameters by the names and in the layouts of ours, as `flat`."""
    return {
        _ours(name): _as_ours(name, parameter.detach().cpu().numpy().copy())
        for name, parameter in module.named_parameters()
    }


def flat(params: Params, above: str = "") -> dict[str, np.ndarray]:
    """{"encoder.Conv_0.kernel": array} of nested parameters."""
    found = {}
    for name, value in params.items():
        if isinstance(value, dict):
            found |= flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = np.asarray(value)
    return found


def decayed(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(the kernels, all other parameters): weight decay is on the first."""
    parameters = list(module.parameters())
    return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim < 2]


def _ours(name: str) -> str:
    """ "head.weight" -> "head.kernel"; of a BatchNorm it is "scale"."""
    at, _, leaf = name.rpartition(".")
    if leaf == "weight":
        leaf = "scale" if "norm" in at.rpartition(".")[2].lower() else "kernel"
    return f"{at}.{leaf}"


def _axes(name: str, ndim: int) -> tuple[int, ...]:
    """Of the transposition to PyTorch's layout: of IO, HWIO or a depthwise HWC1."""
    if ndim == 4 and "Depthwise" in name:
        return (2, 3, 0, 1)
    return (3, 2, 0, 1) if ndim == 4 else tuple(range(ndim))[::-1]


def _as_torch(name: str, array: np.ndarray) -> np.ndarray:
    return array.transpose(_axes(name, array.ndim))


def _as_ours(name: str, array: np.ndarray) -> np.ndarray:
    return array.transpose(np.argsort(_axes(name, array.ndim)))
