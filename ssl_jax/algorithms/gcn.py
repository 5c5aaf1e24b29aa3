"""Semi-supervised learning on a graph: Kipf and Welling, arXiv:1609.02907.

One batch is the whole graph, of which a few nodes are labeled. The loss is the same for
the networks that followed, GAT, APPNP and SGC: `model` is the difference.

Departures: none from tkipf/gcn (gcn/ at 39a4089) but that the validation loss which
stops it is without the decay's term. GAT (PetarV-/GAT, utils/layers.py at 5af87e7) also
drops projected features, draws each head's inputs by itself, and has a bias in eq. 3:
the paper has none of them, nor has this. SGC's code (Tiiiger/SGC, models.py at 2c7a272)
has a bias that its eq. 8 lacks, as this does, and begins as PyTorch's Linear does; here
all begin as tkipf/gcn. APPNP is as in gasteigerjo/ppnp (ppnp/ at 8514e4d).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import optax
from flax import linen as nn

from ssl_jax import core
from ssl_jax.core import Algorithm, Batch, Metrics, PyTree, TrainState
from ssl_jax.core.losses import cross_entropy_of_labeled
from ssl_jax.core.ranges import Weight
from ssl_jax.graphs.sparse import Graph


@dataclass(frozen=True, kw_only=True)
class GCN(Algorithm):
    """batch: features, a Sparse [N, D] whose rows sum to 1; adjacency, a Sparse [N, N];
    label [N], -1 where none is granted."""

    draws_from: ClassVar[str] = "graph"
    views_kind: ClassVar[str] = ""
    model: nn.Module
    tx: optax.GradientTransformation
    # On half the squared norm, and part of the loss as in tkipf/gcn: Adam rescales it.
    weight_decay: Weight = 5e-4
    decay_all: bool = False  # the paper: the first layer only; GAT: all parameters

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        return core.init_state(self.model, self.tx, key, _graph(batch), initial)

    def loss(self, params, model_state, batch: Batch, key):
        logits_NK, model_state = core.forward(
            self.model,
            params,
            model_state,
            _graph(batch),
            train=True,
            rngs={"dropout": key},  # as quoted runs drew: not `model_rngs`
        )
        cross_entropy = cross_entropy_of_labeled(logits_NK, batch["label"])  # eq. 10
        decayed = params if self.decay_all else params["layer_0"]
        penalty = optax.tree.norm(decayed, squared=True) / 2
        correct_N = logits_NK.argmax(-1) == batch["label"]
        metrics = {
            "cross_entropy": core.mean(cross_entropy),
            "accuracy": core.mean(correct_N, batch["label"] >= 0),
        }
        return cross_entropy + self.weight_decay * penalty, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        return core.gradient_step(
            lambda params: self.loss(params, state.model_state, batch, key),
            self.tx,
            state,
        )

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        """logits_NK of all nodes, without dropout."""
        return self._apply(state, batch, None)

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        """hidden_ND of all nodes, what the last layer starts from."""
        return self._apply(state, batch, "features")

    def _apply(self, state, batch, method):
        variables = state.params, state.model_state
        return core.forward(
            self.model, *variables, _graph(batch), train=False, method=method
        )[0]


def _graph(batch):
    return Graph(batch["features"], batch["adjacency"])
