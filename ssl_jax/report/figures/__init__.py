"""Functions from what was measured to a matplotlib Figure.

`figures.curves` is imported when it is asked for, and so are the other modules here:
matplotlib takes half a second, for which no run should wait before its first step.
"""

import importlib
import importlib.util
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    module = f"{__name__}.{name}"
    if importlib.util.find_spec(module) is None:
        raise AttributeError(f"{__name__} has no module {name!r}")
    return importlib.import_module(module)
