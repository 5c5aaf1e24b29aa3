"""A run's rows, figures and hyper-parameters, for who watches it by TensorBoard."""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from ssl_jax.workdir import settings
from ssl_jax.workdir.journal import Journal

_NO_ROWS = ("figures/", "_hparams_/")  # tags of all else


class TensorBoard:
    """Event files in a run's workdir: clu's writer where TensorFlow is loaded already,
    which its import would take seconds for; otherwise event_files.py.

    Args:
      wanted: whether there are to be any.
      config: its fields are the run's hyper-parameters.
    """

    def __init__(self, workdir: Path, wanted: bool, config: Mapping):
        self._workdir, self._wanted, self._config = workdir, wanted, config
        self._several = sum(settings.trains(config[p]) for p in config["phases"]) > 1
        self._writer = None  # opened for the first row: a mistake leaves no file
        if wanted and importlib.util.find_spec("tensorboard") is None:
            self._wanted = False
            logging.warning("no TensorBoard files: tensorboard is not installed.")
        if self._wanted:
            self._kind = _kind_of_writer()
        # Of earlier launches; clu's writer calls its files so as well.
        names = "events.out.tfevents.*"
        self._earlier = sorted(workdir.glob(names)) if self._wanted else []

    def resume(self, journal: Journal) -> None:
        """Takes what `journal`, cut back to the checkpoint that the run goes on from,
        no longer has out of the files of earlier launches: those rows come again.

        Not by a SessionLog.START of that step, behind which TensorBoard would hide
        them: of all phases, whose steps begin at 0 each; and its data server does not
        know it. Who has TensorBoard open meanwhile may have to start it again.
        """
        if not self._earlier:
            return
        shown = {
            (tag, row["step"])
            for row in journal.rows()
            for tag in scalars(row, self._several)
        }
        self._cut(lambda tag, at: tag.startswith(_NO_ROWS) or (tag, at) in shown)

    def row(self, row: dict) -> None:
        """Shows a row of the journal."""
        if self._wanted:
            self._opened().write_scalars(row["step"], scalars(row, self._several))
            self._writer.flush()

    def figures(self, step: int, files: Mapping[str, Path]) -> None:
        """Shows the PNG files, by their names, beside the rows of `step`."""
        if not self._wanted or not files:
            return
        images = {}
        for name, path in files.items():
            with Image.open(path) as image:
                images[f"figures/{name}"] = np.asarray(image.convert("RGB"))[None]
        self._cut(lambda tag, at: tag not in images or at < step)  # if drawn before
        self._opened().write_images(step, images)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _opened(self):
        if self._writer is None:
            self._writer = self._kind(str(self._workdir))
            self._writer.write_hparams(hyperparameters(self._config))
        return self._writer

    def _cut(self, keeps):
        """As event_files.cut, the files of earlier launches that are still there."""
        for path in filter(Path.exists, self._earlier):
            from ssl_jax.workdir import event_files  # and with it tensorboard

            event_files.cut(path, keeps)


def _kind_of_writer():
    """A class, imported before anything is timed."""
    if "tensorflow" in sys.modules:
        from clu import metric_writers

        return metric_writers.SummaryWriter
    from ssl_jax.workdir.event_files import EventFile

    return EventFile


def scalars(row: dict, several: bool = False) -> dict[str, float]:
    """A row's numbers by TensorBoard's tags, without nulls: "accuracy/test", quantity
    and then set, so that a quantity's curves stand together; then the phase, where
    there are `several`, which begin at step 0 each.

    A list of up to 20 numbers, one for each class, is spread as
    "kept_per_class/train/0", ...; other lists are left out.
    """
    named = {}
    for key, value in row.items():
        of, _, quantity = key.partition("/")
        if not quantity:
            continue
        tag = f"{quantity}/{of}" + (f"/{row['phase']}" if several else "")
        if not isinstance(value, list):
            named[tag] = value
        elif len(value) <= 20 and not any(isinstance(v, list) for v in value):
            named |= {f"{tag}/{k}": v for k, v in enumerate(value)}
    return {tag: value for tag, value in named.items() if value is not None}


def hyperparameters(config: Mapping) -> dict[str, float | bool | str]:
    """A configuration's fields, dotted; tuples as text."""
    values = {
        name: json.loads(text)
        for name, text in settings.flat(config)
        if name not in settings.FREE
    }
    plain = (bool, int, float, str)
    return {k: v if isinstance(v, plain) else str(v) for k, v in values.items()}
