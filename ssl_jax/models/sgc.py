"""Simple graph convolution: Wu et al., arXiv:1902.07153, eq. 8.

Z = A_hat^K X W: a linear classifier of smoothed features. It is computed as
A_hat^K (X W), which is the same and has K columns to smooth instead of D.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Whole
from ssl_jax.graphs import sparse
from ssl_jax.graphs.sparse import Graph
from ssl_jax.models.gcn import Dense


class Network(nn.Module):
    """Logits of all nodes."""

    takes: ClassVar[str] = "graph"
    num_classes: int
    propagations: Whole = 2  # K
    dtype: jnp.dtype = jnp.float32  # of the weights

    def setup(self):
        self.layer_0 = Dense(self.num_classes, dropout=0.0, dtype=self.dtype)

    def __call__(self, nodes: Graph, *, train: bool) -> jax.Array:
        """logits_NK."""
        return self._smoothed(nodes, self.layer_0(nodes.features_ND, train=train))

    def features(self, nodes: Graph, *, train: bool) -> jax.Array:
        """A_hat^K X, dense."""
        del train  # nothing here behaves otherwise in training
        x_ND = nodes.features_ND
        dense_ND = jnp.zeros(x_ND.shape).at[x_ND.rows_E, x_ND.columns_E]
        return self._smoothed(nodes, dense_ND.add(x_ND.values_E))

    def _smoothed(self, nodes, y_NK):
        looped = sparse.renormalized(nodes.adjacency_NN)
        for _ in range(self.propagations):
            y_NK = sparse.propagate(looped, y_NK)
        return y_NK
