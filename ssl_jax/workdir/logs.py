"""What a person watching a run sees: words, and a progress bar or a line a row."""

import collections
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from ssl_jax.core import Metrics, processes
from ssl_jax.errors import UserError
from ssl_jax.workdir.journal import Journal
from ssl_jax.workdir.tensorboard import TensorBoard

_OFTEN = 2.0  # seconds: lines come no closer, and rates are over no less


def say(text: str) -> None:
    """A line to who watches; results go to stdout, this does not."""
    if processes.is_first():
        print(text, file=sys.stderr, flush=True)


def redraws() -> bool:
    """Whether a line to who watches may be written over, as a bar is: on a terminal,
    or below a notebook's cell."""
    notebook = type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
    return notebook or sys.stderr.isatty()


class Moment(NamedTuple):
    """When a step was done, in seconds."""

    seconds: float  # of the phase, over all its launches
    training: float  # of this launch, without its evaluations


class Clock:
    """Seconds of a phase, over all its launches, and of this one's training; compiling
    is in neither.

    Args:
      before: the seconds of earlier launches.
      time: in seconds, from whenever.
    """

    def __init__(self, before: float, time: Callable[[], float] = time.monotonic):
        self._before, self._time = before, time
        self._began, self._paused = time(), 0.0

    def now(self) -> Moment:
        elapsed = self._time() - self._began
        return Moment(self._before + elapsed, elapsed - self._paused)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Around what is no part of the phase."""
        began = self._time()
        yield
        self._began += self._time() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training."""
        began = self._time()
        yield
        self._paused += self._time() - began


class Progress:
    """A bar on a terminal and in a notebook; otherwise a line for the first row, the
    last, and between them one in two seconds of those with an evaluation and one of
    those without. Both with steps/s of training and the time left by that.

    Args:
      first: the step that this launch begins after.
      total: the phase's last.
    """

    def __init__(self, phase: str, first: int, total: int):
        self._phase, self._total = phase, total
        self._done = collections.deque([(first, 0.0)])  # (step, seconds of training)
        self._shown, self._held = {}, None
        self._bar = None
        if first:
            say(f"{phase} resumes at step {first}")
        if redraws() and processes.is_first():
            self._bar = tqdm(
                total=total,
                initial=first,
                desc=phase,
                # Not tqdm's own rate: steps are sent long before they are done.
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
                "{postfix}",
            )

    def at(self, step: int) -> None:
        """`step` is sent, though not done."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def row(self, row: dict, moment: Moment) -> None:
        """Shows a row of the journal, whose step was done at `moment`."""
        values = {
            key: f"{key} {value:.4g}"
            for key, value in row.items()
            if key in ("train/loss", "val/accuracy", "test/accuracy")
            and value is not None
        }
        pace = self._pace(row["step"], moment.training)
        text = "  ".join([*values.values(), pace])
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            return
        self._held = f"{self._phase} {row['step']}/{self._total}  {text}"
        kind = frozenset(values)
        if moment.seconds - self._shown.get(kind, -math.inf) >= _OFTEN:
            self._shown[kind] = moment.seconds
            self._show()

    def close(self) -> None:
        self._show()
        if self._bar is not None:
            self._bar.close()

    def _show(self):
        if self._held is not None:
            say(self._held)
            self._held = None

    def _pace(self, step, training):
        """Over the steps since the row before, or the rows of the last two seconds."""
        while len(self._done) > 1 and training - self._done[1][1] >= _OFTEN:
            self._done.popleft()
        first, began = self._done[0]
        self._done.append((step, training))
        if step == first or training <= began:
            return "-- steps/s  -- left"
        rate = (step - first) / (training - began)
        return f"{rate:.3g} steps/s  {clock((self._total - step) / rate)} left"


def clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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


def values(sums: dict[str, Metrics]) -> dict[str, Any]:
    """What sums on the host give as "<set>/<metric>": a number or lists of them."""
    return {
        f"{name}/{metric}": np.asarray(value).tolist()
        for name, metrics in sums.items()
        for metric, value in computed(metrics).items()
    }


def nulled(value: Any) -> Any:
    """A number, or nested lists of them, with None where not finite."""
    if isinstance(value, list):
        return [nulled(v) for v in value]
    return value if math.isfinite(value) else None


class Log:
    """Rows on their way from the device to the journal and whoever watches.

    A row is written once its step is done, so that reading its numbers does not hold up
    the steps sent since, and carries the time at which it was.
    """

    def __init__(
        self,
        rows: list[dict],
        journal: Journal,
        tensorboard: TensorBoard,
        progress: Progress,
        warning: Callable[[list[dict], dict], str | None],
        clock: Clock,
    ):
        self._rows = rows  # of this phase; grows
        self._journal, self._tensorboard = journal, tensorboard
        self._progress, self._clock = progress, clock
        self._warning = warning  # (rows before, row) -> what to tell of it, or None
        self._pending = None

    def put(
        self, head: dict, sums: dict[str, Metrics], moment: Moment | None = None
    ) -> None:
        """A row: `head`, the time, and what `sums` give as "<set>/<metric>".

        Args:
          moment: when its step was done, if that is known: it may be under way.
        """
        self.flush()
        self._pending = head, sums, moment

    def write_done(self) -> None:
        """Writes the row that waits if its step is done; called after each step that is
        sent, so that it is seen about when it happens.

        Raises:
          UserError: as `flush`.
        """
        if self._pending is not None:
            leaves = jax.tree.leaves(self._pending[1])
            if all(leaf.is_ready() for leaf in leaves if isinstance(leaf, jax.Array)):
                self.flush()

    def flush(self) -> None:
        """Waits for the row's step and writes it, if one waits; a number that is not
        finite is null.

        Raises:
          UserError: its training loss is not finite (the row is written first).
        """
        if self._pending is None:
            return
        (head, sums, moment), self._pending = self._pending, None
        sums = jax.device_get(sums)
        moment = moment or self._clock.now()
        given = values(sums)
        row = {
            **head,
            "seconds": moment.seconds,
            **{key: nulled(value) for key, value in given.items()},
        }
        if warning := self._warning(self._rows, row):
            logging.warning("%s", warning)
        self._rows.append(row)
        self._journal.write(row)
        self._tensorboard.row(row)
        self._progress.row(row, moment)
        if row.get("train/loss", 0.0) is None:
            raise UserError(
                f"the training loss is {given['train/loss']} between the last two log "
                f"points before step {row['step']} of phase {row['phase']!r}; the "
                "checkpoints before it are kept. Lower optimizer.learning_rate and use "
                "another workdir."
            )
