"""What every algorithm is written against: state, contract, and a few helpers.

Shape letters, here and everywhere: B labeled batch, U unlabeled batch, N data set,
K classes, D features, HWC image.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import optax
from clu.metrics import Average
from flax import linen as nn
from flax import struct
from jax.sharding import PartitionSpec as P

PyTree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, Average]


class UserError(ValueError):
    """A mistake that the user can mend: launch.py prints it and exits with status 2."""


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


def init_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    key: jax.Array,
    images_BHWC: jax.Array,
    initial: PyTree | None,
) -> TrainState:
    """Step 0 on fresh variables, with the parts in `initial` laid over them.

    Args:
      initial: None, or what an earlier phase hands over:
        {"params": {part: ...}, "batch_stats": {part: ...}}, where a part is a
        top-level module such as "encoder".

    Raises:
      UserError: a part is missing from the model, or its shapes differ.
    """
    variables = model.init(key, images_BHWC, train=False)
    for collection, parts in (initial or {}).items():
        for part, value in parts.items():
            fresh = variables.get(collection, {}).get(part)
            if jax.tree.map(jnp.shape, fresh) != jax.tree.map(jnp.shape, value):
                raise UserError(
                    f"{collection}/{part} handed over by the earlier phase does not "
                    "fit this phase's model: use the same config.model for both."
                )
            laid_over = {**variables[collection], part: value}
            variables = {**variables, collection: laid_over}
    params = variables["params"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        model_state={k: v for k, v in variables.items() if k != "params"},
        opt_state=tx.init(params),
        extra={},
    )


def forward(
    model: nn.Module,
    params: PyTree,
    model_state: PyTree,
    images_BHWC: jax.Array,
    *,
    train: bool,
    method: str | None = None,
) -> tuple[jax.Array, PyTree]:
    """Applies the model: (outputs, model_state), the latter moved only if `train`."""
    variables = {"params": params, **model_state}
    if train:
        return model.apply(
            variables, images_BHWC, train=True, mutable=list(model_state), method=method
        )
    return model.apply(variables, images_BHWC, train=False, method=method), model_state


def gradient_step(
    loss_fn: Callable[[PyTree], tuple[jax.Array, tuple]],
    tx: optax.GradientTransformation,
    state: TrainState,
) -> tuple[TrainState, Metrics, *tuple[Any, ...]]:
    """One optimizer step on `loss_fn(params) -> (loss, (model_state, metrics, *rest))`:
    (state, metrics, *rest), where rest is what else the loss came by."""
    (loss, (model_state, metrics, *rest)), grads = jax.value_and_grad(
        loss_fn, has_aux=True
    )(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        opt_state=opt_state,
    )
    return state, {"loss": mean(loss), **metrics}, *rest


def ema(average: PyTree, value: PyTree, decay: jax.Array | float) -> PyTree:
    """decay * average + (1 - decay) * value, leaf by leaf.

    Give it parameters and BatchNorm moments together: a teacher that averages only
    the parameters is judged with statistics that do not belong to them.
    """
    return optax.incremental_update(value, average, 1 - decay)


def ramp(step: jax.Array, steps: float) -> jax.Array:
    """Linear from 0 at step 0 to 1 at `steps`, then 1; always 1 if `steps` is 0."""
    return jnp.minimum(step / steps, 1.0) if steps else jnp.float32(1)


def num_devices() -> int:
    """Devices of the ambient mesh (`jax.set_mesh`); 1 outside of any."""
    return jax.sharding.get_abstract_mesh().shape.get("data", 1)


def concat_views(*views: jax.Array) -> jax.Array:
    """Joins batches into one, so that BatchNorm sees them together.

    Each view is split by rows over the mesh's devices. A plain concatenate moves rows
    between devices (compiled for 4 devices: 4 all-to-all, 9 permutes). Rows are
    therefore interleaved, [devices, rows per device, ...] joined on axis 1, and every
    row stays where it is. `split_views` is the inverse.
    """
    devices = num_devices()
    views = [v.reshape(devices, -1, *v.shape[1:]) for v in views]
    joined = jnp.concatenate(views, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def split_views(joined: jax.Array, *sizes: int) -> list[jax.Array]:
    """Takes apart what `concat_views` joined; `sizes` are the views' row counts."""
    devices = num_devices()
    rows = joined.reshape(devices, -1, *joined.shape[1:])
    ends = [sum(sizes[: i + 1]) // devices for i in range(len(sizes) - 1)]
    views = jnp.split(rows, ends, axis=1)
    return [v.reshape(-1, *v.shape[2:]) for v in views]


def mean(values: jax.Array, mask: jax.Array | None = None) -> Average:
    """A metric that merges as sums: the mean of `values`, where `mask` if given."""
    if mask is None:
        mask = jnp.ones_like(values)
    mask = mask.astype(jnp.float32)
    return Average(total=(values * mask).sum(), count=mask.sum())


def on_every_device(rows: jax.Array) -> jax.Array:
    """All rows of a small array that is split by rows, on every device.

    Each device adds its rows to zeros elsewhere, so that the only exchange is the
    all-reduce that gradients need, too. Where nothing is split, the array as it is.
    """
    devices = num_devices()
    if devices == 1:
        return rows

    def own(part):
        place = jax.lax.axis_index("data")
        whole = jnp.zeros((devices, *part.shape), part.dtype).at[place].set(part)
        # A sum of booleans is of integers.
        return jax.lax.psum(whole, "data").reshape(rows.shape).astype(rows.dtype)

    return jax.shard_map(own, in_specs=P("data"), out_specs=P())(rows)
