"""What a person watching a run sees: a progress bar or plain lines, and TensorBoard."""

import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from ssl_jax.core import Metrics
from ssl_jax.errors import UserError
from ssl_jax.workdir.journal import Journal


class Progress:
    """A bar with steps/s and time left on a terminal; a plain line a row otherwise."""

    def __init__(self, phase: str, first: int, total: int):
        self._phase, self._first, self._total = phase, first, total
        self._began = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=first, desc=phase, unit="step")

    def at(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def row(self, row: dict) -> None:
        """Shows a row of the journal."""
        shown = {
            key: f"{value:.4g}"
            for key, value in row.items()
            if key in ("train/loss", "val/accuracy", "test/accuracy")
            and value is not None
        }
        if self._bar is not None:
            self._bar.set_postfix(shown)
            return
        done = row["step"] - self._first
        rate = done / max(time.monotonic() - self._began, 1e-9)
        left = (self._total - row["step"]) / max(rate, 1e-9)
        values = "  ".join(f"{key} {value}" for key, value in shown.items())
        print(
            f"{self._phase} {row['step']}/{self._total}  {values}  "
            f"{rate:.3g} steps/s  {clock(left)} left",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def scalars(row: dict) -> dict[str, float]:
    """A row's numbers by TensorBoard's names, without nulls.

    A list of up to 20 numbers is spread as name/0, name/1, ...; other lists are left
    out.
    """
    named = {}
    for key, value in row.items():
        if "/" not in key:
            continue
        key = f"{row['phase']}/{key}"
        if not isinstance(value, list):
            named[key] = value
        elif len(value) <= 20 and not any(isinstance(v, list) for v in value):
            named |= {f"{key}/{k}": v for k, v in enumerate(value)}
    return {key: value for key, value in named.items() if value is not None}


class TensorBoard:
    """Event files of the journal's rows, where TensorFlow is importable."""

    def __init__(self, workdir: Path, wanted: bool):
        self._workdir, self._wanted = workdir, wanted
        self._writer = None  # made for the first row: importing TensorFlow takes long
        # clu's writer needs both, and declares neither.
        names = ("tensorflow", "tensorboard")
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        if wanted and missing:
            self._wanted = False
            logging.warning(
                "no TensorBoard files: %s is not installed.", " and ".join(missing)
            )

    def row(self, row: dict) -> None:
        if not self._wanted:
            return
        if self._writer is None:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            from clu import metric_writers  # imports TensorFlow

            self._writer = metric_writers.SummaryWriter(str(self._workdir))
        self._writer.write_scalars(row["step"], scalars(row))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def computed(metrics: Metrics) -> dict[str, Any]:
    """The value of each metric that counted anything: a number or an array.

    A metric that computes a dict stands for all of its entries, by their names.
    """
    values = {}
    for name, metric in metrics.items():
        if metric.count > 0:
            value = metric.compute()
            values |= value if isinstance(value, dict) else {name: value}
    return values


def nulled(value: Any) -> Any:
    """A number, or nested lists of them, with None where not finite."""
    if isinstance(value, list):
        return [nulled(v) for v in value]
    return value if math.isfinite(value) else None


class Log:
    """Rows on their way from the device to the journal and whoever watches.

    A row is written when the next one is put, so that reading its numbers does not
    hold up the steps dispatched since.
    """

    def __init__(
        self,
        rows: list[dict],
        journal: Journal,
        tensorboard: TensorBoard,
        progress: Progress,
        warning: Callable[[list[dict], dict], str | None],
    ):
        self._rows = rows  # of this phase; grows
        self._journal = journal
        self._shown_by = (tensorboard, progress)
        self._warning = warning  # (rows before, row) -> what to tell of it, or None
        self._pending = None

    def put(self, head: dict, sums: dict[str, Metrics]) -> None:
        """A row: `head`, and what `sums` give as "<set>/<metric>"."""
        self.flush()
        self._pending = head, sums

    def flush(self) -> None:
        """Writes the row that waits, if any; a number that is not finite is null.

        Raises:
          UserError: its training loss is not finite (the row is written first).
        """
        if self._pending is None:
            return
        (row, sums), self._pending = self._pending, None
        values = {
            f"{name}/{metric}": np.asarray(value).tolist()
            for name, metrics in jax.device_get(sums).items()
            for metric, value in computed(metrics).items()
        }
        row |= {key: nulled(value) for key, value in values.items()}
        if warning := self._warning(self._rows, row):
            logging.warning("%s", warning)
        self._rows.append(row)
        self._journal.write(row)
        for shown in self._shown_by:
            shown.row(row)
        if row.get("train/loss", 0.0) is None:
            raise UserError(
                f"the training loss is {values['train/loss']} between the last two log "
                f"points before step {row['step']} of phase {row['phase']!r}; the "
                "checkpoints before it are kept. Lower optimizer.learning_rate and use "
                "another workdir."
            )
