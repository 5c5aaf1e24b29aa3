"""A teacher that is the moving average of the network, in state.extra["ema"].

It averages the parameters and the BatchNorm moments, and it is what is judged. An
algorithm with the fields model, tx, views and ema_decay takes these as its methods:
`init = teacher.init`; its train_step ends with `teacher.update`.
"""

import jax

from ssl_jax.core import Batch, PyTree, TrainState, ema, forward, init_state


def init(
    self, key: jax.Array, batch: Batch, initial: PyTree | None = None
) -> TrainState:
    """The network at step 0, and a teacher that equals it."""
    x_BHWC = self.views.plain(batch["image"])
    state = init_state(self.model, self.tx, key, x_BHWC, initial)
    return state.replace(extra={"ema": (state.params, state.model_state)})


def update(self, state: TrainState) -> TrainState:
    """The teacher moves by 1 - ema_decay towards the network as it now is."""
    network = (state.params, state.model_state)
    average = ema(state.extra["ema"], network, self.ema_decay)
    return state.replace(extra={**state.extra, "ema": average})


def predict(self, state: TrainState, batch: Batch) -> jax.Array:
    """The teacher's logits_BK."""
    x_BHWC = self.views.plain(batch["image"])
    return forward(self.model, *state.extra["ema"], x_BHWC, train=False)[0]


def features(self, state: TrainState, batch: Batch) -> jax.Array:
    """The teacher's features_BD."""
    x_BHWC = self.views.plain(batch["image"])
    variables = state.extra["ema"]
    return forward(self.model, *variables, x_BHWC, train=False, method="features")[0]
