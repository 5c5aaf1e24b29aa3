"""Augmentations: (key, image_HWC) -> image_HWC, one image each, vmapped at the edge.

A kind of views is a module here that has a `build`: "weak_strong", "two_crops". It
returns a NamedTuple of functions from uint8 images_BHWC to normalised float32 ones,
`plain` for evaluation and those that an algorithm of this kind asks for, each a
function of (key, images); pictures undo the normalising by what `plain` makes of black
and white. Its keywords are the fields of a config's `augment` section. The other
modules are operations.
"""

import inspect
from types import ModuleType
from typing import Any

from ssl_jax.core import named
from ssl_jax.errors import UserError


def names() -> list[str]:
    """The kinds of views."""
    modules = [named.module(__name__, name) for name in named.modules(__name__)]
    return [m.__name__.rpartition(".")[2] for m in modules if hasattr(m, "build")]


def find(kind: str) -> ModuleType:
    """The module of the views `kind`.

    Raises:
      UserError: no such kind; the message lists what exists.
    """
    if kind not in (known := names()):
        raise UserError(
            f"augment.name={kind!r} is unknown; {named.choices(kind, known)}"
        )
    return named.module(__name__, kind)


def hparams(kind: str) -> dict[str, object]:
    """The keywords of the views `kind` with their defaults.

    Raises:
      UserError: no such kind; the message lists what exists.
    """
    parameters = inspect.signature(find(kind).build).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def build(name: str, **hparams: Any) -> Any:
    """The views of the kind `name`.

    Raises:
      UserError: no such kind, or as its `build`.
    """
    return find(name).build(**hparams)
