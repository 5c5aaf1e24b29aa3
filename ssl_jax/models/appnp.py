"""APPNP: Klicpera et al., "Predict then Propagate", arXiv:1810.05997, eq. 4.

An MLP predicts for every node by itself, H = MLP(X), and personalised PageRank smooths:
Z(0) = H, Z(k+1) = (1 - alpha) A_hat Z(k) + alpha H. As in the paper (section 5) both
layers have dropout, and so has A_hat, drawn anew for every propagation.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Rate, Share, Whole
from ssl_jax.graphs import sparse
from ssl_jax.graphs.sparse import Graph, Looped
from ssl_jax.models.gcn import Dense


class Network(nn.Module):
    """Logits of all nodes."""

    takes: ClassVar[str] = "graph"
    num_classes: int
    hidden: Count = 64
    teleport: Share = 0.1  # alpha
    propagations: Whole = 10  # K
    dropout: Rate = 0.5
    dtype: jnp.dtype = jnp.float32  # of the layers' weights and dense inputs

    def setup(self):
        self.layer_0 = Dense(self.hidden, self.dropout, self.dtype)
        self.layer_1 = Dense(self.num_classes, self.dropout, self.dtype)

    def __call__(self, nodes: Graph, *, train: bool) -> jax.Array:
        """logits_NK; in training it needs the rng "dropout"."""
        own_NK = self.layer_1(self.features(nodes, train=train), train=train)
        looped = sparse.renormalized(nodes.adjacency_NN)
        z_NK = own_NK
        for _ in range(self.propagations):
            heard_NK = sparse.propagate(self._dropped(looped, train), z_NK)
            z_NK = (1 - self.teleport) * heard_NK + self.teleport * own_NK
        return z_NK

    def features(self, nodes: Graph, *, train: bool) -> jax.Array:
        """hidden_ND of each node by itself, after the ReLU."""
        return nn.relu(self.layer_0(nodes.features_ND, train=train))

    def _dropped(self, looped, train):
        if not (train and self.dropout):
            return looped
        keys = jax.random.split(self.make_rng("dropout"))
        return Looped(*map(sparse.dropout, keys, looped, [self.dropout] * 2))
