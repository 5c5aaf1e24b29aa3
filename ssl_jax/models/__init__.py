"""Networks: an encoder from one of the files here, and a linear head.

A network on a graph (gcn and its kin) has no head of its own: its last layer is one.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core import named
from ssl_jax.errors import UserError


class Classifier(nn.Module):
    """Linear head on an encoder; the two are handed over between phases apart.

    The head and everything after it are float32 whatever the encoder computes in.
    """

    encoder: nn.Module
    num_classes: int

    def setup(self):
        self.head = nn.Dense(
            self.num_classes, kernel_init=nn.initializers.glorot_normal()
        )

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """logits_BK of normalised images."""
        return self.head(self.features(images_BHWC, train=train))

    def features(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, what the head sees."""
        return self.encoder(images_BHWC, train=train).astype(jnp.float32)


def hparams(name: str) -> dict[str, object]:
    """Hyper-parameters of the model `name` with their defaults; dtype by its name.

    Raises:
      UserError: no such model; the message lists what exists.
    """
    fields = named.defaults(_find(name))
    return {**fields, "dtype": jnp.dtype(fields["dtype"]).name}


def on_graph(name: str) -> bool:
    """Whether `name` is a network on a graph.

    Raises:
      UserError: no such model.
    """
    return _find(name).__name__ == "Network"


def build(name: str, *, num_classes: int, dtype: str, **hparams: Any) -> nn.Module:
    """The encoder `name` ("wide_resnet" is models/wide_resnet.py) under a linear head,
    or the network on a graph ("gcn").

    Raises:
      UserError: no such model.
      TypeError: a hyper-parameter that the model does not have.
    """
    model = _find(name)
    if on_graph(name):
        return model(num_classes=num_classes, dtype=jnp.dtype(dtype), **hparams)
    return Classifier(model(dtype=jnp.dtype(dtype), **hparams), num_classes)


def _find(name):
    """The module's Network, where it has one, else its Encoder."""
    try:
        return named.find(__name__, f"{name}.Network", having="__call__")
    except UserError:
        return named.find(__name__, f"{name}.Encoder", having="__call__")
