"""A teacher that is the moving average of the network, and is what is judged.

Its parameters are state.extra["ema"]. Its BatchNorm moments are the network's own, as
in google-research/fixmatch (libml/utils.py at d4985a1: `model_vars`) and USB (the class
EMA of semilearn/core/utils/misc.py at 1ef4cbe copies them): they are running averages
already, and averaged once more would be the older.

An algorithm with the fields model, tx, views, ema_decay and ema_warmup takes these as
its methods: `init = ema_teacher.init`; its train_step ends with `ema_teacher.update`,
and with `ema_teacher.probe` if its strong view may be CTAugment: `learns_augmentation`.

Those fields and lines stand in every such algorithm, and no base class has them: a
method is read in its own file, where some have an `init` or `features` of their own.
"""

import jax
import jax.numpy as jnp

from ssl_jax.augment import ctaugment
from ssl_jax.core import (
    Batch,
    PyTree,
    TrainState,
    ema,
    forward,
    init_state,
    rising,
)


def init(
    self, key: jax.Array, batch: Batch, initial: PyTree | None = None
) -> TrainState:
    """The network at step 0, and a teacher that equals it.

    Where the strong view is CTAugment, its rates are state.extra["rates"].
    """
    x_BHWC = self.views.plain(batch["image"])
    state = init_state(self.model, self.tx, key, x_BHWC, initial)
    extra = {"ema": state.params}
    if _probe(self.views):
        extra["rates"] = ctaugment.init()
    return state.replace(extra=extra)


def update(self, state: TrainState) -> TrainState:
    """The teacher moves by 1 - ema_decay towards the network as it now is, after
    state.step steps; with `ema_warmup` by more in the first ones (`core.rising`)."""
    decay = self.ema_decay
    if self.ema_warmup:
        decay = rising(decay, state.step - 1)
    average = ema(state.extra["ema"], state.params, decay)
    return state.replace(extra={**state.extra, "ema": average})


def variables(state: TrainState) -> tuple[PyTree, PyTree]:
    """The teacher's (params, model_state)."""
    return state.extra["ema"], state.model_state


def probe(self, state: TrainState, batch: Batch, key: jax.Array) -> TrainState:
    """CTAugment's rates move: what the teacher makes of labeled images, changed.

    The state as it is where the strong view is not CTAugment.
    """
    view = _probe(self.views)
    if view is None:
        return state
    x_BHWC, drawn = view(key, batch["image"])
    logits_BK = forward(self.model, *variables(state), x_BHWC, train=False)[0]
    probs_BK = jax.nn.softmax(logits_BK.astype(jnp.float32))
    label_BK = jax.nn.one_hot(batch["label"], logits_BK.shape[-1])
    proximity_B = 1 - 0.5 * jnp.abs(probs_BK - label_BK).sum(-1)
    rates = ctaugment.update(state.extra["rates"], drawn, proximity_B)
    return state.replace(extra={**state.extra, "rates": rates})


def predict(self, state: TrainState, batch: Batch) -> jax.Array:
    """The teacher's logits_BK."""
    x_BHWC = self.views.plain(batch["image"])
    return forward(self.model, *variables(state), x_BHWC, train=False)[0]


def features(self, state: TrainState, batch: Batch) -> jax.Array:
    """The teacher's features_BD."""
    x_BHWC = self.views.plain(batch["image"])
    teacher = variables(state)
    return forward(self.model, *teacher, x_BHWC, train=False, method="features")[0]


def _probe(views):
    """What only some of the views of weak_strong have, and no others need to."""
    return getattr(views, "probe", None)
