"""The methods: one paper, one file; shared/ has what several of them are made of.

A config names an algorithm "fixmatch.FixMatch", the class FixMatch in fixmatch.py, and
`find` is the one place that looks for it. What it is, where it draws from, which views
it takes, which methods it has, is said by the class: core/contract.py explains it.
"""

import dataclasses
from typing import Any

from ssl_jax.core import Algorithm, named
from ssl_jax.errors import UserError


def names() -> list[str]:
    """The modules here, one method each: "adamatch", "autoencoder", ..."""
    return named.modules(__name__)


def find(name: str) -> type[Algorithm]:
    """The algorithm "fixmatch.FixMatch".

    Raises:
      UserError: no such algorithm; the message lists what exists.
    """
    module_name, _, class_name = name.partition(".")
    classes = named.classes(named.module(__name__, name), having="train_step")
    if class_name not in classes:
        known = [f"{module_name}.{known}" for known in classes]
        raise UserError(
            f"{name!r}: {module_name}.py has no such class; "
            f"{named.choices(name, known)}"
        )
    return classes[class_name]


def method(word: str) -> str:
    """The name of the one algorithm in a module: "fixmatch.FixMatch" of "fixmatch".

    Raises:
      UserError: no such module; the message lists what exists.
    """
    cls = named.only(named.module(__name__, word), having="train_step")
    return f"{word}.{cls.__name__}"


def build(
    cls: type[Algorithm] | str, hparams: dict[str, object], **context: Any
) -> Algorithm:
    """The algorithm, given of `context` only what it has a field for.

    Args:
      cls: the class, or its name.
      hparams: values for the fields that have a default.
      **context: model, tx, views, num_classes, num_labeled, labeled_K (labeled images
        of each class), granted_K (those of them that no network labeled),
        num_unlabeled, total_steps.

    Raises:
      UserError: no such algorithm.
      TypeError: a hyper-parameter that the algorithm does not have.
    """
    cls = find(cls) if isinstance(cls, str) else cls
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in context.items() if k in fields}, **hparams)


def takes(cls: type[Algorithm], field: str) -> bool:
    """Whether the algorithm has a field such as "tx"."""
    return field in {f.name for f in dataclasses.fields(cls)}
