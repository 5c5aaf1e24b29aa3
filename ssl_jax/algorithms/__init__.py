"""One paper, one file. `build` finds a class here by the name that a config gives."""

import dataclasses
from typing import Any

from ssl_jax import named
from ssl_jax.core import Algorithm


def hparams(name: str) -> dict[str, object]:
    """Hyper-parameters of the algorithm `name` ("fixmatch.FixMatch") with defaults.

    Raises:
      UserError: no such algorithm; the message lists what exists.
    """
    return named.defaults(named.find(__name__, name))


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
    cls = named.find(__name__, name)
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in context.items() if k in fields}, **hparams)
