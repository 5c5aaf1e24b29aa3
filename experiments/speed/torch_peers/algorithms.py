"""Supervised training, FixMatch and BYOL in PyTorch, as ssl_jax/algorithms has them.

Each is given views that are augmented and normalised, and takes one step on them. The
settings are those of a config: of its one phase that trains, and of its model.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.speed.torch_peers import networks
from experiments.speed.torch_peers.weights import decayed


@dataclass(frozen=True)
class Settings:
    """What a config says of a training, in plain values: they go to other processes."""

    model: dict
    algorithm: dict
    optimizer: dict
    augment: dict
    steps: int  # of the whole schedule
    batch_size: int
    unlabeled_ratio: int
    channels: int
    num_classes: int

    @property
    def method(self) -> str:
        return self.algorithm["name"]

    @property
    def views_per_step(self) -> int:
        """Images that the network sees in a step: two of each unlabeled one."""
        if self.method == "byol.BYOL":
            return 2 * self.batch_size
        return self.batch_size * (1 + 2 * self.unlabeled_ratio)


class Training:
    """A network, its optimizer and its average; the loss is the method's."""

    def __init__(
        self,
        settings: Settings,
        device: torch.device,
        *,
        tuned: bool,
        channels_last: bool = True,
        bfloat16: bool = False,
        compile: Callable[[Callable], Callable] = lambda function: function,
    ):
        """
        Args:
          tuned: the optimizer's fused form, and averages by one call over all tensors;
            otherwise both as the public codebases have them, tensor by tensor.
          compile: is given the loss, with its networks: torch.compile, if any.
        """
        self.settings, self.device, self.tuned = settings, device, tuned
        self.channels_last, self.bfloat16, self.steps = channels_last, bfloat16, 0
        form = torch.channels_last if channels_last else torch.contiguous_format
        self.network, self.average = self.build()
        self.network.to(device, memory_format=form)
        self.average.to(device, memory_format=form).requires_grad_(False)
        self.optimizer = optimizer(self.network, settings.optimizer, fused=tuned)
        self.rate = schedule(settings)
        self._loss = compile(self.loss)

    def build(self) -> tuple[nn.Module, nn.Module]:
        """(network, what is an average of it)."""
        encoder = networks.encoder(self.settings.model, self.settings.channels)
        network = networks.Classifier(encoder, self.settings.num_classes)
        return network, copy.deepcopy(network)

    def loss(self, views: Sequence[Tensor], labels_B: Tensor) -> Tensor:
        raise NotImplementedError

    def decay(self, step: int) -> float:
        """Of the average, after so many steps."""
        given = self.settings.algorithm
        if given["ema_warmup"]:
            return min(given["ema_decay"], (1 + step) / (10 + step))
        return given["ema_decay"]

    def step(self, views: Sequence[Tensor], labels_B: Tensor) -> Tensor:
        """One optimizer step; the loss before it, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, self.bfloat16):
            loss = self._loss(views, labels_B)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._move_average(1 - self.decay(self.steps))
        self.steps += 1
        return loss.detach()

    @torch.no_grad()
    def _move_average(self, weight: float) -> None:
        new = dict(self.network.named_parameters())
        pairs = [(p, new[name]) for name, p in self.average.named_parameters()]
        if self.tuned:
            averages, values = map(list, zip(*pairs, strict=True))
            torch._foreach_lerp_(averages, values, weight)
            return
        for average, value in pairs:
            average.mul_(1 - weight).add_(value, alpha=weight)


class Supervised(Training):
    def loss(self, views, labels_B):
        (x_BCHW,) = views
        return F.cross_entropy(self.network(x_BCHW), labels_B)


class FixMatch(Training):
    def loss(self, views, labels_B):
        x, weak, strong = views
        B, U = len(x), len(weak)
        if self.settings.algorithm["weak_gradient"]:
            joined = self.network(torch.cat(views))
            x_BK, weak_UK, strong_UK = joined.split((B, U, U))
        else:
            with torch.no_grad():
                weak_UK = self.network(weak)
            x_BK, strong_UK = self.network(torch.cat((x, strong))).split((B, U))
        confidence_U, label_U = weak_UK.detach().softmax(-1).max(-1)
        kept_U = (confidence_U >= self.settings.algorithm["threshold"]).float()
        loss_U = F.cross_entropy(strong_UK, label_U, reduction="none")
        unlabeled = (loss_U * kept_U).mean()
        weight = self.settings.algorithm["unlabeled_weight"]
        return F.cross_entropy(x_BK, labels_B) + weight * unlabeled


class BYOL(Training):
    def build(self):
        given = self.settings.algorithm
        encoder = networks.encoder(self.settings.model, self.settings.channels)
        sizes = given["hidden"], given["projection"], given["head_bias"]
        network = networks.Online(encoder, *sizes, self.settings.num_classes)
        target = networks.Projected(copy.deepcopy(encoder), *sizes)
        target.load_state_dict(network.state_dict(), strict=False)
        return network, target

    def decay(self, step):
        arc = math.pi * step / self.settings.steps
        return 1 - (1 - self.settings.algorithm["tau_base"]) * (math.cos(arc) + 1) / 2

    def loss(self, views, labels_B):
        (y_BD, first_BP), (_, second_BP) = (self.network(view) for view in views)
        with torch.no_grad():
            targets = [self.average(view)[1] for view in views]
        logits_BK = networks.unrounded(self.network.head, y_BD.detach())
        objective = _distance(first_BP, targets[1]) + _distance(second_BP, targets[0])
        return objective.mean() + F.cross_entropy(logits_BK, labels_B)


def _distance(x_BD: Tensor, y_BD: Tensor) -> Tensor:
    return 2 - 2 * (F.normalize(x_BD, eps=1e-6) * F.normalize(y_BD, eps=1e-6)).sum(-1)


METHODS = {
    "supervised.Supervised": Supervised,
    "fixmatch.FixMatch": FixMatch,
    "byol.BYOL": BYOL,
}


def schedule(settings: Settings) -> Callable[[int], float]:
    """The learning rate of a step, as ssl_jax/train/optimizers.py's, without warm-up.

    Raises:
      ValueError: another schedule than these.
    """
    given, steps = settings.optimizer, settings.steps
    rate = given["learning_rate"]
    if given["per_batch"]:
        rate *= settings.batch_size / given["per_batch"]
    shapes = {
        "constant": lambda step: 1.0,
        "cosine": lambda step: (1 + math.cos(math.pi * step / steps)) / 2,
        "cosine_7_16": lambda step: math.cos(7 * math.pi * step / (16 * steps)),
    }
    if given["warmup_steps"] or given["schedule"] not in shapes:
        raise ValueError(f"{given['schedule']} with a warm-up is not written here.")
    shape = shapes[given["schedule"]]
    return lambda step: rate * shape(step)


def optimizer(network: nn.Module, given: dict, *, fused: bool) -> torch.optim.Optimizer:
    """SGD or LARS of a config, with L2 on kernels alone.

    Raises:
      ValueError: another one.
    """
    if given["decay_on"] != "kernels":
        raise ValueError(f"decay_on={given['decay_on']!r} is not written here.")
    kernels, others = decayed(network)
    groups = [
        {"params": kernels, "weight_decay": given["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    rate, momentum = given["learning_rate"], given["momentum"]
    if given["name"] == "sgd":
        return torch.optim.SGD(
            groups, rate, momentum, nesterov=given["nesterov"], fused=fused or None
        )
    if given["name"] == "lars" and not given["nesterov"]:
        eta, clip = given["trust_coefficient"], given["clip_lr"]
        return LARS(groups, rate, momentum=momentum, eta=eta, clip=clip)
    raise ValueError(f"the optimizer {given['name']!r} is not written here.")


class LARS(torch.optim.Optimizer):
    """ssl_jax/train/optimizers.py's, with `clip` solo-learn's, by foreach calls.

    The first group is adapted, the second has plain momentum. No kernel is 0, nor its
    gradient, so the cases for that are left out.
    """

    def __init__(self, groups, lr: float, *, momentum: float, eta: float, clip: bool):
        super().__init__(groups, {"lr": lr})
        self.momentum, self.eta, self.clip = momentum, eta, clip

    @torch.no_grad()
    def step(self):
        for adapts, group in zip((True, False), self.param_groups, strict=True):
            weights = group["params"]
            updates = [p.grad for p in weights]
            if adapts:
                updates = self._adapted(weights, updates, group)
            if not self.state[weights[0]]:
                for weight in weights:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            buffers = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_mul_(buffers, self.momentum)
            torch._foreach_add_(buffers, updates)
            torch._foreach_add_(weights, buffers, alpha=-group["lr"])

    def _adapted(self, weights, grads, group):
        decay = group["weight_decay"]
        norm = torch.stack(torch._foreach_norm(weights))
        grad_norm = torch.stack(torch._foreach_norm(grads))
        grads = torch._foreach_add(grads, weights, alpha=decay)
        if self.clip:
            trust = self.eta * norm / (grad_norm + decay * norm + 1e-8)
            trust = (trust / group["lr"]).clamp(max=1)
        else:
            trust = self.eta * norm / torch.stack(torch._foreach_norm(grads))
        torch._foreach_mul_(grads, list(trust.unbind()))
        return grads
