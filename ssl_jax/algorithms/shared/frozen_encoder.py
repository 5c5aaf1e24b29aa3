"""An encoder that stays as it begins, and whose features are all that is learned from.

An algorithm with the fields model and views (`augment.plain`) takes `begun` and
`features` as its methods, and says by `embeds` of which images of the pool it asks for
features. Those are computed once, before the first step: by whoever trains, a part of
the pool at a time (`train.program`), which `init` then finds in batch["feature"]; or by
`init` itself, in one pass.
"""

import jax
import optax

from ssl_jax.core import Batch, PyTree, TrainState, forward, init_state


def begun(
    self, key: jax.Array, batch: Batch, initial: PyTree | None = None
) -> TrainState:
    """The network at step 0, with what `features` needs and no optimizer."""
    x_1HWC = self.views.plain(batch["image"][:1])
    state = init_state(self.model, optax.identity(), key, x_1HWC, initial)
    return state.replace(opt_state=())


def features(self, state: TrainState, batch: Batch) -> jax.Array:
    """The encoder's features_BD."""
    x_BHWC = self.views.plain(batch["image"])
    args = (state.params, state.model_state, x_BHWC)
    return forward(self.model, *args, train=False, method="features")[0]


def of_pool(self, state: TrainState, batch: Batch) -> jax.Array:
    """features_ND of the images that the algorithm asks for; of others, any."""
    return batch["feature"] if "feature" in batch else self.features(state, batch)
