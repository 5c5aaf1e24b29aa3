"""Finding modules and classes by the names that a config gives; there is no registry.

What a package has is what lies in the folders of its `__path__`: a folder appended to
it from outside counts as well.
"""

import dataclasses
import difflib
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType

from ssl_jax.errors import UserError


def modules(package: str) -> list[str]:
    """The modules of `package`, sorted; not the packages in it, such as "shared"."""
    folders = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(folders) if not m.ispkg)


def module(package: str, name: str) -> ModuleType:
    """The module of `package` that `name` names, or begins with: "fixmatch.FixMatch".

    Raises:
      UserError: no such module; the message lists what exists.
    """
    own = name.partition(".")[0]
    loaded = sys.modules.get(f"{package}.{own}")
    if loaded is not None and not hasattr(loaded, "__path__"):
        return loaded  # a folder is listed in a millisecond, and asked a hundred times
    if own not in (there_are := modules(package)):
        where = package.replace(".", "/")
        raise UserError(f"{name!r} is not in {where}; {choices(own, there_are)}")
    return importlib.import_module(f"{package}.{own}")


def classes(module: ModuleType, having: str) -> dict[str, type]:
    """The classes of the module itself, not what it imports, with the attribute
    `having`, which tells them from their helpers: "train_step", "takes"."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and hasattr(value, having)
    }


def only(module: ModuleType, having: str) -> type:
    """The one class of `classes`.

    Raises:
      UserError: there is none, or more than one.
    """
    found = list(classes(module, having).values())
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise UserError(
            f"{module.__name__} should have one class with `{having}`; it has {names}."
        )
    return found[0]


def choices(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is none of those known: what was meant,
    if one is like it, and all there are."""
    known = list(known)
    like = difflib.get_close_matches(wrong, known, n=1)
    meant = f"did you mean {like[0]!r}? " if like else ""
    return f"{meant}there are: {', '.join(known)}."


def defaults(cls: type) -> dict[str, object]:
    """The fields of a dataclass that have a default: its hyper-parameters."""
    return {
        field.name: field.default
        for field in dataclasses.fields(cls)
        if field.default is not dataclasses.MISSING
        and field.name not in ("name", "parent")  # linen's own
    }
