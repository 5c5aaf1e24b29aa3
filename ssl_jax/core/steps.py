"""What train steps are made of: initialise, apply, take one optimizer step, average."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ssl_jax.core.contract import Metrics, PyTree, TrainState
from ssl_jax.core.devices import row_numbers
from ssl_jax.core.metrics import mean
from ssl_jax.errors import UserError


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
    rngs: Mapping[str, jax.Array] | None = None,
    method: str | None = None,
    sizes: Sequence[int] = (),
) -> tuple[jax.Array, PyTree]:
    """Applies the model: (outputs, model_state), the latter moved only if `train`.

    Args:
      images_BHWC: normalised; or what else the model takes, such as a graph.
      rngs: what the model may draw from, by name: a pass with `train` gives it the
        step's `model_rngs`, for networks with dropout.
      sizes: of the views that `concat_views` joined, as `split_views` takes them: the
        model finds its rows' numbers in the collection "rows", to draw by.
    """
    variables = {"params": params, **model_state}
    if sizes:
        variables["rows"] = {"number": row_numbers(*sizes)}
    apply = partial(model.apply, variables, images_BHWC)
    if train:
        return apply(train=True, mutable=list(model_state), rngs=rngs, method=method)
    return apply(train=False, rngs=rngs, method=method), model_state


def model_rngs(key: jax.Array, index: int = 0) -> dict[str, jax.Array]:
    """What the network may draw from in one of a step's passes in training mode.

    Args:
      key: of the step, the same in all its passes. It may be split as well, or used:
        `split` and draws count from 0, and this from 2^31.
      index: of the pass, so that each pass drops other units: 0, 1, ...
    """
    return {"dropout": jax.random.fold_in(key, np.uint32(2**31 + index))}


def is_off(setting: float | jax.Array) -> bool:
    """Whether a setting is 0, and will be: a search may give it to a program as it
    runs (tuning/bench.py), which is then compiled for any number."""
    return not isinstance(setting, jax.Array) and setting == 0


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
    """decay * average + (1 - decay) * value, leaf by leaf."""
    return optax.incremental_update(value, average, 1 - decay)


def rising(decay: float, count: jax.Array) -> jax.Array:
    """The decay of an average that has been moved `count` times, from 0.1 up to
    `decay`: min(decay, (1 + count) / (10 + count)).

    A decay of 0.999 leaves .37 of the start after 1,000 moves; this one leaves
    9! t! / (t + 9)! after t, which is 1e-7 at 20 and soon nothing in float32. The rule
    is that of TensorFlow's ExponentialMovingAverage with `num_updates`.
    """
    return jnp.minimum(decay, (1.0 + count) / (10.0 + count))


def ramp(step: jax.Array, steps: float) -> jax.Array:
    """Linear from 0 at step 0 to 1 at `steps`, then 1; always 1 if `steps` is 0."""
    return jnp.minimum(step / steps, 1.0) if steps else jnp.float32(1)
