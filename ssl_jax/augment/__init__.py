"""Augmentations: (key, image_HWC) -> image_HWC, one image each, vmapped at the edge.

A config's `augment` section names one of the files here that has a `build`:
`weak_strong` or `two_crops`. Its keywords are the section's fields.
"""

import importlib
import inspect
from typing import Any

from ssl_jax.errors import UserError

KINDS = ("weak_strong", "two_crops")


def hparams(name: str) -> dict[str, object]:
    """The keywords of the kind `name` with their defaults.

    Raises:
      UserError: no such kind; the message lists what exists.
    """
    parameters = inspect.signature(_module(name).build).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def build(name: str, **hparams: Any) -> Any:
    """The views of the kind `name`, a NamedTuple of functions.

    Raises:
      UserError: no such kind, or as its `build`.
    """
    return _module(name).build(**hparams)


def _module(name):
    if name not in KINDS:
        raise UserError(
            f"augment.name={name!r} is unknown; choose from {', '.join(KINDS)}."
        )
    return importlib.import_module(f"{__name__}.{name}")
