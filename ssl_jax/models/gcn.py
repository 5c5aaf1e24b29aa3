"""Graph convolutional network: Kipf and Welling, arXiv:1609.02907, section 3.1.

Z = A_hat ReLU(A_hat X W0) W1 with the renormalised adjacency A_hat. As in tkipf/gcn
there are no biases, and the inputs of both layers have dropout.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Rate
from ssl_jax.graphs import sparse
from ssl_jax.graphs.sparse import Graph, Sparse


class Dense(nn.Module):
    """dropout(X) W of sparse or dense X; no bias."""

    features: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_ND: Sparse | jax.Array, *, train: bool) -> jax.Array:
        """[N, features] in float32: sums over a row's entries have that precision."""
        kernel_DK = self.param(
            "kernel",
            nn.initializers.glorot_uniform(),
            (x_ND.shape[1], self.features),
        ).astype(self.dtype)
        if train and self.dropout:
            x_ND = sparse.dropout(self.make_rng("dropout"), x_ND, self.dropout)
        if not isinstance(x_ND, Sparse):
            x_ND = x_ND.astype(self.dtype)
        return sparse.product(x_ND, kernel_DK).astype(jnp.float32)


class Network(nn.Module):
    """Logits of all nodes."""

    takes: ClassVar[str] = "graph"
    num_classes: int
    hidden: Count = 16
    dropout: Rate = 0.5
    dtype: jnp.dtype = jnp.float32  # of the layers' weights and dense inputs

    def setup(self):
        self.layer_0 = Dense(self.hidden, self.dropout, self.dtype)
        self.layer_1 = Dense(self.num_classes, self.dropout, self.dtype)

    def __call__(self, nodes: Graph, *, train: bool) -> jax.Array:
        """logits_NK; in training it needs the rng "dropout"."""
        own_NK = self.layer_1(self.features(nodes, train=train), train=train)
        return sparse.propagate(sparse.renormalized(nodes.adjacency_NN), own_NK)

    def features(self, nodes: Graph, *, train: bool) -> jax.Array:
        """hidden_ND, after the ReLU."""
        own_ND = self.layer_0(nodes.features_ND, train=train)
        heard_ND = sparse.propagate(sparse.renormalized(nodes.adjacency_NN), own_ND)
        return nn.relu(heard_ND)
