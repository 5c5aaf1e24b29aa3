"""Graph attention network: Velickovic et al., arXiv:1710.10903, sections 2.1 and 3.3.

Heads of the first layer are concatenated (eq. 5); the second layer has one. The inputs
of both and the attention have dropout. Biases after the sums as in PetarV-/GAT.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Rate
from ssl_jax.graphs import sparse
from ssl_jax.graphs.sparse import Graph, Looped, Sparse


def attention(
    adjacency_NN: Sparse, to_NH: jax.Array, from_NH: jax.Array, slope: float = 0.2
) -> Looped:
    """How much each node hears of its neighbours and itself, H heads; sums to 1.

    Eq. 3: softmax over j of LeakyReLU(a^T [W h_i | W h_j]), where to_NH has the part
    of a that goes with i, and from_NH the part with j.
    """
    rows_E, columns_E, N = adjacency_NN.rows_E, adjacency_NN.columns_E, len(to_NH)
    edges_EH = nn.leaky_relu(to_NH[rows_E] + from_NH[columns_E], slope)
    self_NH = nn.leaky_relu(to_NH + from_NH, slope)
    # Any number that all of a node share cancels; its largest keeps exp in range.
    sorted_sum = dict(num_segments=N, indices_are_sorted=True)
    largest_NH = jax.lax.stop_gradient(
        jnp.maximum(jax.ops.segment_max(edges_EH, rows_E, **sorted_sum), self_NH)
    )
    edges_EH = jnp.exp(edges_EH - largest_NH[rows_E])
    self_NH = jnp.exp(self_NH - largest_NH)
    total_NH = jax.ops.segment_sum(edges_EH, rows_E, **sorted_sum) + self_NH
    edges_NN = adjacency_NN.replace(values_E=edges_EH / total_NH[rows_E])
    return Looped(edges_NN, self_NH / total_NH)


class Attention(nn.Module):
    """One layer of H heads with F features each."""

    heads: int
    features: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, adjacency_NN: Sparse, x_ND: Sparse | jax.Array, *, train: bool
    ) -> jax.Array:
        """[N, H, F] in float32."""
        H, F, D = self.heads, self.features, x_ND.shape[1]

        def dropped(x):
            if not (train and self.dropout):
                return x
            return sparse.dropout(self.make_rng("dropout"), x, self.dropout)

        glorot = nn.initializers.glorot_uniform  # each head by itself
        kernel_DHF = self.param("kernel", glorot(0, 2, batch_axis=1), (D, H, F))
        to_HF1 = self.param("to", glorot(1, 2, batch_axis=0), (H, F, 1))
        from_HF1 = self.param("from", glorot(1, 2, batch_axis=0), (H, F, 1))
        bias_HF = self.param("bias", nn.initializers.zeros, (H, F))

        x_ND = dropped(x_ND)
        if not isinstance(x_ND, Sparse):
            x_ND = x_ND.astype(self.dtype)
        y_NK = sparse.product(x_ND, kernel_DHF.reshape(D, H * F).astype(self.dtype))
        y_NHF = y_NK.astype(jnp.float32).reshape(-1, H, F)
        to_NH, from_NH = (
            (y_NHF * part_HF1.reshape(1, H, F)).sum(-1)
            for part_HF1 in (to_HF1, from_HF1)
        )
        heard = attention(adjacency_NN, to_NH, from_NH)
        heard = Looped(dropped(heard.edges_NN), dropped(heard.self_N))
        return sparse.propagate(heard, y_NHF) + bias_HF[None, :, :]


class Network(nn.Module):
    """Logits of all nodes. Weights of an adjacency count nowhere, only its entries."""

    takes: ClassVar[str] = "graph"
    num_classes: int
    heads: Count = 8
    hidden: Count = 8  # features of a head
    dropout: Rate = 0.6  # of both layers' inputs and of the attention
    dtype: jnp.dtype = jnp.float32  # of the layers' weights and dense inputs

    def setup(self):
        self.layer_0 = Attention(self.heads, self.hidden, self.dropout, self.dtype)
        self.layer_1 = Attention(1, self.num_classes, self.dropout, self.dtype)

    def __call__(self, nodes: Graph, *, train: bool) -> jax.Array:
        """logits_NK; in training it needs the rng "dropout"."""
        hidden_ND = self.features(nodes, train=train)
        return self.layer_1(nodes.adjacency_NN, hidden_ND, train=train)[:, 0, :]

    def features(self, nodes: Graph, *, train: bool) -> jax.Array:
        """hidden_ND of all heads, after the ELU."""
        y_NHF = self.layer_0(nodes.adjacency_NN, nodes.features_ND, train=train)
        return nn.elu(y_NHF.reshape(len(y_NHF), -1))
