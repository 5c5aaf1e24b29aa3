"""What every algorithm is written against: state, contract, and a few helpers.

Shape letters, here and everywhere: B labeled batch, U unlabeled batch, N data set,
K classes, D features, HWC image.
"""

from typing import Any, ClassVar, Protocol

import jax
import optax
from clu.metrics import Average
from flax import struct

PyTree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, Average]


class TrainState(struct.PyTreeNode):
    """Everything that training moves: one pytree, so one checkpoint item."""

    step: jax.Array  # int32 scalar: optimizer steps taken
    params: PyTree  # what the optimizer moves
    model_state: PyTree  # what the forward pass moves: {"batch_stats": ...}
    opt_state: optax.OptState
    extra: PyTree  # what the algorithm moves: EMA teacher, thresholds, ...


class Algorithm(Protocol):
    """Pure functions over a TrainState; implementations are frozen dataclasses.

    A training batch holds uint8 images and int32 labels:
    image [B, H, W, C], label [B]; and where the phase has unlabeled data,
    unlabeled_image [U, H, W, C], unlabeled_index [U] (the position in the unlabeled
    set, 0..num_unlabeled-1) and unlabeled_label [U] (the truth where it is known, else
    -1: for diagnostics only, never for a loss). In a phase with `labels_from` there is
    label_probs [B, K] float32 as well: one-hot for a granted label, else what the
    teacher said, whose argmax is then the label.

    An algorithm may leave out `predict` or `features`, if it has no such thing, and may
    have
      eval_step(state, batch, key) -> Metrics
    for what else it measures on held-out images; batch has image, label and mask [B],
    False where a row is padding; and
      transduce(state) -> log_NK
    for what it says of the images that it trains on, if `draws_from` is "pool".
    """

    # "labeled", or "unlabeled": image is then drawn from the unlabeled set, and label
    # is -1 but for the images whose label the run was granted. Or all at once: "pool",
    # every image of both sets; "graph", features and adjacency of all nodes
    # (data/graphs.py). Both have mask [N] as well: False where a row is padding, or a
    # node not asked about.
    draws_from: ClassVar[str]

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """`initial`: variables that an earlier phase hands over (`init_state`)."""

    def train_step(
        self, state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, Metrics]: ...

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        """logits_BK of batch["image"], by the weights that should be judged."""

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        """features_BD of batch["image"], for probes, k-NN and active learning."""
