"""Learning from few labels in JAX.

    classifier = ssl_jax.load("runs/second")    what a finished run has learned
    classifier.predict(["new.jpg", "newer.jpg"])

What is offered here is imported when it is asked for: JAX takes seconds.
"""

import importlib

__version__ = "0.1.0"

_DOORS = {
    "Classifier": "ssl_jax.train.classifier",
    "ImageClassifier": "ssl_jax.api.on_images",
    "LabelPropagation": "ssl_jax.api.on_graphs",
    "LabelSpreading": "ssl_jax.api.on_graphs",
    "fit": "ssl_jax.api.fitting",
    "load": "ssl_jax.api.finished",
}


def __getattr__(name: str):
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOORS])
