"""Finding a class by the name that a config gives it; there is no registry."""

import dataclasses
import importlib
import pkgutil

from ssl_jax.errors import UserError


def find(package: str, name: str, having: str) -> type:
    """The class `name` ("fixmatch.FixMatch") in a module of `package`.

    Args:
      having: the attribute that tells such a class from its helpers: "train_step".

    Raises:
      UserError: no such module or class; the message lists what exists.
    """
    module_name, _, class_name = name.partition(".")
    folder = importlib.import_module(package)
    modules = sorted(m.name for m in pkgutil.iter_modules(folder.__path__))
    if module_name not in modules:
        raise UserError(
            f"{name!r} is not in {package.replace('.', '/')}; "
            f"there are: {', '.join(modules)}."
        )
    module = importlib.import_module(f"{package}.{module_name}")
    classes = [
        key
        for key, value in vars(module).items()
        # Not what the module imports.
        if hasattr(value, having) and value.__module__ == module.__name__
    ]
    if class_name not in classes:
        raise UserError(
            f"{name!r}: {module_name}.py has no such class; "
            f"there are: {', '.join(f'{module_name}.{c}' for c in classes)}."
        )
    return getattr(module, class_name)


def defaults(cls: type) -> dict[str, object]:
    """The fields of a dataclass that have a default: its hyper-parameters."""
    return {
        field.name: field.default
        for field in dataclasses.fields(cls)
        if field.default is not dataclasses.MISSING
        and field.name not in ("name", "parent")  # linen's own
    }
