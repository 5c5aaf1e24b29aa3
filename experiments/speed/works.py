"""What peers.py times: configs of this project, each a network, a batch and views."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs import base
from experiments import jobs
from experiments.speed import pillow_views
from experiments.speed.torch_peers.algorithms import Settings
from ssl_jax.data import loading
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.train import phases
from ssl_jax.train.phases import Phase
from ssl_jax.train.sections import parse

CLASSES = 10
# Networks of --debug. 16 channels at least: the backward pass of PyTorch 2.13's ResNet
# of width 8 ends in a segmentation fault on a CPU, in 96 px and channels_last.
_SMALL = {
    "wide_resnet": dict(widen=1, blocks=1),
    "mobilenet": dict(widen=0.5),
    "resnet": dict(width=16),
    "convnet": dict(filters=(16, 16)),
}
_NO_VIEWS = {f"train.augment.{view}": "none" for view in ("weak", "strong")}


@dataclass(frozen=True)
class Work:
    """What is timed: a config's phase on images of a shape."""

    config: str  # "<file>:<words>"
    shape: tuple[int, int, int]  # height, width, channels
    says: Mapping[str, object] = field(default_factory=dict)  # dotted field -> value
    model: str = ""  # another than the config's
    phase: str = "train"


WORKS = {
    "wrn64": Work("cifar10:supervised", (32, 32, 3)),
    "fixmatch": Work("cifar10", (32, 32, 3)),
    "fixmatch_nograd": Work(
        "cifar10", (32, 32, 3), {"train.algorithm.weak_gradient": False}
    ),
    "mobilenet": Work("cifar10:supervised", (32, 32, 3), model="mobilenet"),
    "byol32": Work("byol_cifar10", (32, 32, 3), phase="pretrain"),
    "byol96": Work("byol_stl10:paper96", (96, 96, 3), phase="pretrain"),
    "convnet_mnist": Work("mnist", (28, 28, 1)),
    "convnet_mnist_network": Work("mnist", (28, 28, 1), _NO_VIEWS),
    "digits": Work("digits", (8, 8, 1)),
}


def configured(
    name: str, *, batch: int = 0, byol_batch: int = 64, debug: bool = False
) -> ConfigDict:
    """The work's config, without a warm-up, whose first rate is 0.

    Args:
      batch: images in place of the config's batch_size; 0: those, or BYOL's byol_batch.
      debug: a small network and batch.
    """
    work = WORKS[name]
    config = jobs.load(work.config, work.says)
    config.unlock()
    config.phases, config.tensorboard = (work.phase,), False
    if work.model:
        base.refill(config, "model", work.model)
    phase = config[work.phase]
    phase.optimizer.warmup_steps = 0
    if phase.algorithm.name == "byol.BYOL":
        phase.batch_size = byol_batch
    phase.batch_size = batch or phase.batch_size
    if debug:
        config.model.update(_SMALL[config.model.name])
        phase.batch_size = 8
        phase.unlabeled_ratio = min(phase.unlabeled_ratio, 2)
        if phase.algorithm.name == "byol.BYOL":
            phase.algorithm.update(hidden=16, projection=16)
    return config


def settings_of(work: Work, config: ConfigDict) -> Settings:
    """What PyTorch's side is told of the config."""
    phase = config[work.phase]
    parts = ("algorithm", "optimizer", "augment")
    sizes = ("steps", "batch_size", "unlabeled_ratio")
    return Settings(
        model=config.model.to_dict(),
        **{part: phase[part].to_dict() for part in parts},
        **{size: phase[size] for size in sizes},
        channels=work.shape[-1],
        num_classes=CLASSES,
    )


def prepared(work: Work, config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Phase:
    """Its phase on these images, as train.run would build it."""
    run = parse(config, mesh.size)
    data = loading.load(run.data, mesh, seed=run.seed, dataset=dataset)
    return phases.prepared(config, work.phase, mesh, data)[0]


def check_device(on_gpu: bool) -> None:
    """
    Args:
      on_gpu: whether PyTorch has one.

    Raises:
      UserError: JAX has none then, or has one otherwise.
    """
    if (jax.default_backend() == "gpu") != on_gpu:
        raise UserError(
            f"JAX has the devices {jax.devices()}, but torch.cuda.is_available() is "
            f"{on_gpu}: install both libraries for a GPU, or hide it from both by "
            "JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES=-1."
        )


def made_up(shape: tuple[int, int, int], rows: int) -> Dataset:
    """So many images, like photographs as far as slow changes go, their classes in
    turn; nothing to test on."""
    images_NHWC = pillow_views.smooth_noise(rows, *shape)
    labels_N = np.arange(rows, dtype=np.int32) % CLASSES
    names = tuple(map(str, range(CLASSES)))
    nothing = images_NHWC[:0], labels_N[:0]
    return Dataset("made up", images_NHWC, labels_N, *nothing, class_names=names)
