"""Networks, one file each; shared/ has what several are made of, and pretrained/ reads
the weights of others. The class that `find` takes from a file says of itself:

takes   "images": it is an encoder, (images_BHWC, train) -> features_BD, and `build`
        puts a linear head on it, with dropout before. "graph": (nodes, train) ->
        logits_NK, with a method `features`; its last layer is its head, and it has a
        field `num_classes`.
small   what to be in `:debug`: hyper-parameters other than the defaults, and "name" if
        another model should stand in. A model that leaves it out is as configured.
hides_patches
        True: its encoder takes kept_BV as well, the patches that it is to see, and
        then gives their tokens (`vit`). A model may leave it out.

Its other fields are hyper-parameters with defaults; `dtype` is one of them. What it
draws in training it draws from the rng "dropout" (`core.model_rngs`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core import PyTree, is_off, named
from ssl_jax.core.ranges import Rate
from ssl_jax.models.shared.in_parts import InParts


class Classifier(nn.Module):
    """Linear head on an encoder; the two are handed over between phases apart.

    The head and everything after it are float32 whatever the encoder computes in.
    """

    encoder: nn.Module
    num_classes: int
    dropout: Rate = 0.0  # of what the head sees, in training; 0: none

    def setup(self):
        self.head = nn.Dense(
            self.num_classes, kernel_init=nn.initializers.glorot_normal()
        )

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """logits_BK of normalised images."""
        features_BD = self.features(images_BHWC, train=train)
        return self.head(self.dropped(features_BD) if train else features_BD)

    def features(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, what the head sees."""
        return self.encoder(images_BHWC, train=train).astype(jnp.float32)

    def dropped(self, features_BD: jax.Array) -> jax.Array:
        """features_BD / (1 - dropout), where each is 0 with probability `dropout`.

        Each row draws by its number (`core.row_numbers`), so that it drops the same
        wherever devices have it.
        """
        if is_off(self.dropout):
            return features_BD
        B, D = features_BD.shape
        key, number_B = self.make_rng("dropout"), jnp.arange(B)
        if self.has_variable("rows", "number"):
            number_B = jnp.asarray(self.get_variable("rows", "number"))

        def kept_D(number):
            return jax.random.bernoulli(
                jax.random.fold_in(key, number), 1 - self.dropout, (D,)
            )

        kept_BD = jax.vmap(kept_D)(number_B)
        return jnp.where(kept_BD, features_BD / (1 - self.dropout), 0.0)


def find(name: str) -> type[nn.Module]:
    """The model `name` ("wide_resnet" is in models/wide_resnet.py): the one class of
    the file that says what it `takes`.

    Raises:
      UserError: no such model; the message lists what exists.
    """
    return named.only(named.module(__name__, name), having="takes")


def declare(name: str) -> tuple[type[nn.Module], ...]:
    """The classes whose fields with a default are the hyper-parameters of the model
    `name`: its own, and of an encoder without dropout `Classifier`, which has some.

    Raises:
      UserError: no such model; the message lists what exists.
    """
    model = find(name)
    headless = model.takes == "images" and "dropout" not in named.defaults(model)
    return (model, Classifier) if headless else (model,)


def hparams(name: str) -> dict[str, object]:
    """Hyper-parameters of the model `name` with their defaults; dtype by its name.

    Raises:
      UserError: no such model; the message lists what exists.
    """
    fields = {}
    for declared in declare(name):
        fields |= named.defaults(declared)
    return {**fields, "dtype": jnp.dtype(fields["dtype"]).name}


def stand_in(name: str) -> tuple[str, dict[str, object]] | None:
    """What stands in for the model `name` where seconds count, such as `:debug`: a
    model and its hyper-parameters. None: the model itself, as it is configured."""
    given = getattr(find(name), "small", None)
    if given is None:
        return None
    given = dict(given)
    other = given.pop("name", name)
    if other == name:
        return name, given
    return other, dict(getattr(find(other), "small", {})) | given


def in_parts(model: Classifier, parts: int) -> Classifier:
    """The model as it trains on a batch in so many parts; `InParts` says how."""
    return model.clone(encoder=InParts(model.encoder, parts))


def encoder_variables(apply: Callable[[], Any]) -> PyTree:
    """{"params": ..., "batch_stats": ...} of the encoder that `apply` runs, whichever a
    method gives it, such as an average; {} where it runs none."""
    found = {}

    def noted(next_method, args, kwargs, context):
        if (context.module.name, context.method_name) == ("encoder", "__call__"):
            found.update(context.module.variables)
        return next_method(*args, **kwargs)

    with nn.intercept_methods(noted):
        apply()
    return found


def build(
    name: str,
    *,
    num_classes: int,
    dtype: str,
    weights: str = "",
    normalized: str = "",
    partial: bool = False,
    **hparams: Any,
) -> nn.Module:
    """The encoder `name` ("wide_resnet" is models/wide_resnet.py) under a linear head,
    or the network on a graph ("gcn").

    Args:
      weights, normalized, partial: of a configuration's section "model"; what a network
        begins with (`pretrained`) makes it no other.

    Raises:
      UserError: no such model.
      TypeError: a hyper-parameter that the model does not have.
    """
    del weights, normalized, partial
    model, *around = declare(name)
    if model.takes == "graph":
        return model(num_classes=num_classes, dtype=jnp.dtype(dtype), **hparams)
    dropout = hparams.pop("dropout", 0.0) if around else 0.0
    encoder = model(dtype=jnp.dtype(dtype), **hparams)
    return Classifier(encoder, num_classes, dropout)
