"""What every algorithm is written against: state, metrics, and what is promised.

Shape letters, here and everywhere: B labeled batch, U unlabeled batch, N data set,
K classes, D features, HWC image.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
import optax
from flax import struct

PyTree = Any
Batch = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything that training moves: one pytree, so one checkpoint item."""

    step: jax.Array  # int32 scalar: optimizer steps taken
    params: PyTree  # what the optimizer moves
    model_state: PyTree  # what the forward pass moves: {"batch_stats": ...}
    opt_state: optax.OptState
    extra: PyTree  # what the algorithm moves: EMA teacher, thresholds, ...


class Metric(Protocol):
    """A pytree of sums. Those of several steps, images or devices merge by adding them
    up leaf by leaf: `core.mean`, `metrics.Calibration`, `metrics.EffectiveRank`."""

    count: jax.Array  # what it is of: images, weights, steps; 0: nothing to compute

    def compute(self) -> float | np.ndarray | dict[str, np.ndarray]:
        """On the host: a number, one of each class, or several by their names."""


Metrics = dict[str, Metric]


class Algorithm(Protocol):
    """Pure functions over a TrainState; implementations inherit this, and are frozen
    dataclasses whose fields with a default are the hyper-parameters.

    A training batch holds uint8 images and int32 labels:
    image [B, H, W, C], label [B]; where those are labeled, index [B] (the position in
    the labeled set, 0..num_labeled-1); and where the phase has unlabeled data,
    unlabeled_image [U, H, W, C], unlabeled_index [U] (the position in the unlabeled
    set, 0..num_unlabeled-1) and unlabeled_label [U] (the truth where it is known and
    was not granted, which would test nothing, else -1: for diagnostics only, never for
    a loss). In a phase with `labels_from` there is
    label_probs [B, K] float32 as well: one-hot for a granted label, else what the
    teacher said, whose argmax is then the label.

    What not every algorithm has (`OPTIONAL`; `can` tells who has it):
      predict(state, batch) -> logits_BK
        of batch["image"], by the weights that should be judged;
      features(state, batch) -> features_BD
        of batch["image"], for probes, k-NN and active learning;
      eval_step(state, batch, key) -> Metrics
        what else it measures on held-out images; batch has image, label and mask [B],
        False where a row is padding;
      transduce(state) -> log_NK
        what it says of the images that it trains on, if `draws_from` is "pool";
      reconstruct(state, batch, count=10) -> {name: uint8 images_BHWC}
        the first `count` images and what it makes of them, to be looked at.
    """

    # "labeled", or "unlabeled": image is then drawn from the unlabeled set, and label
    # is -1 but for the images whose label the run was granted. Or all at once: "pool",
    # every image of both sets; "graph", features and adjacency of all nodes
    # (graphs/sparse.py). Both have mask [N] as well: False where a row is padding, or a
    # node not asked about.
    draws_from: ClassVar[str]
    # The module of augment/ that makes what its field `views` is given; "": it has no
    # such field.
    views_kind: ClassVar[str]
    # Its train_step asks for unlabeled images beside the labeled ones.
    needs_unlabeled: ClassVar[bool] = False
    # So many images of a batch its loss needs, if it tells them apart.
    least_batch: ClassVar[int] = 1
    # Its train_step moves CTAugment's rates, by `ema_teacher.probe`.
    learns_augmentation: ClassVar[bool] = False
    # Its train_step compares each image with those on all devices (`devices.gathered`),
    # where others exchange sums alone.
    gathers: ClassVar[bool] = False
    # It hides patches from its network, which has to know of them: models/vit.py.
    hides_patches: ClassVar[bool] = False
    # It learns from features of the "pool", or of what is "labeled" there, by the
    # encoder that it begins with (`begun`) and leaves as it is: whoever trains may
    # compute them before, for `init` to find in batch["feature"] [N, D]. "": it does
    # not.
    embeds: ClassVar[str] = ""
    # Hyper-parameters as `:debug` has them, where the defaults take long.
    small: ClassVar[Mapping[str, object]] = {}

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """`initial`: variables that an earlier phase hands over (`init_state`)."""

    def train_step(
        self, state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, Metrics]: ...


OPTIONAL = ("predict", "features", "eval_step", "transduce", "reconstruct")


def can(algorithm: Algorithm | type[Algorithm], method: str) -> bool:
    """Whether the algorithm, or the class, has one of the methods it may leave out.

    Raises:
      ValueError: the contract has no such method, so nobody would ever have it.
    """
    if method not in OPTIONAL:
        raise ValueError(f"{method!r} is none of Algorithm's {', '.join(OPTIONAL)}.")
    return hasattr(algorithm, method)
