"""One paper, one file. `build` finds a class here by the name that a config gives."""

import dataclasses
from typing import Any

from ssl_jax.core import Algorithm, named


def hparams(name: str) -> dict[str, object]:
    """Hyper-parameters of the algorithm `name` ("fixmatch.FixMatch") with defaults.

    Raises:
      UserError: no such algorithm; the message lists what exists.
    """
    return named.defaults(_find(name))


def views(name: str) -> str:
    """The kind of views that the algorithm trains on: "weak_strong", "two_crops".

    It is the module of augment/ that the type of its field `views` comes from; "" for
    an algorithm without that field.

    Raises:
      UserError: no such algorithm.
    """
    fields = {f.name: f.type for f in dataclasses.fields(_find(name))}
    return fields["views"].__module__.rpartition(".")[2] if "views" in fields else ""


def takes(name: str, field: str) -> bool:
    """Whether the algorithm has a field `field`, such as "tx".

    Raises:
      UserError: no such algorithm.
    """
    return field in {f.name for f in dataclasses.fields(_find(name))}


def draws_from(name: str) -> str:
    """Where a batch of the algorithm comes from: the "labeled" or the "unlabeled"
    images, or all at once, the "pool" or the "graph" (core.Algorithm).

    Raises:
      UserError: no such algorithm.
    """
    return _find(name).draws_from


def has(name: str, method: str) -> bool:
    """Whether the algorithm has one of the methods that it may leave out.

    Raises:
      UserError: no such algorithm.
    """
    return hasattr(_find(name), method)


def build(name: str, hparams: dict[str, object], **context: Any) -> Algorithm:
    """The algorithm `name`, given of `context` only what it has a field for.

    Args:
      name: "fixmatch.FixMatch" is the class FixMatch in algorithms/fixmatch.py.
      hparams: values for the fields that have a default.
      **context: model, tx, views, num_classes, num_unlabeled, total_steps.

    Raises:
      UserError: no such algorithm.
      TypeError: a hyper-parameter that the algorithm does not have.
    """
    cls = _find(name)
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in context.items() if k in fields}, **hparams)


def _find(name):
    return named.find(__name__, name, having="train_step")
