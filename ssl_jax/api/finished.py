"""A finished run from a Python session: its workdir in, a classifier out."""

import os
from pathlib import Path

from ssl_jax.cli import older
from ssl_jax.train import classifier, sections
from ssl_jax.train.classifier import Classifier
from ssl_jax.workdir import settings
from ssl_jax.workdir.workdir import Workdir


def load(workdir: str | os.PathLike, phase: str = "") -> Classifier:
    """What the finished run in `workdir` has learned: of the phase of that name, or
    else of the last that classifies images (or of the last with features, where none
    does).

    The workdir alone is needed, wherever it lies now: no data set.

    Raises:
      UserError: it is no such folder, is not trained to its end, has no such phase, or
        one that learned from a graph.
    """
    config = older.completed(settings.of_run(workdir))
    wanted = sections.parse(config, to_train=False)
    return classifier.of_run(wanted, Workdir(Path(workdir)), phase)
