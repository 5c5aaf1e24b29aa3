"""The learning rate, by a range test: it rises with each step, and the loss says when
it is too high.

Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186,
section 3.3, with a rate that rises by the same factor at each step, and the training
loss in place of the validation accuracy. What to make of it is fast.ai's rule: a tenth
of the rate at which the loss was lowest (`space.rates`). A loss that fell by no more
than batches differ says nothing of the rate: a network that is regularised learns
little in so few steps, or has learned before.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from ssl_jax.tuning.bench import Bench
from ssl_jax.workdir import logs

LOWEST, HIGHEST = 1e-5, 10.0
STEPS, FEWEST = 200, 60  # of a test, and of one for which there is little time
_MEMORY = 0.9  # of the average of losses
_DIVERGED = 4.0  # times the lowest loss
_FIRST = 0.25  # of a test's steps: rates up to 3e-4, where the loss is as it was
_CLEAR = 6.0  # standard deviations of the average: of a hundred of them, one is 3 low


def rising(steps: int) -> np.ndarray:
    """The rate of each step, from LOWEST to HIGHEST by equal factors."""
    return np.geomspace(LOWEST, HIGHEST, steps)


class Watch:
    """The losses of a test, averaged over a few steps, and when it is over."""

    def __init__(self, rates: np.ndarray, per_call: int):
        self._rates, self._per_call = rates, per_call
        self._sum = self._weight = 0.0
        self.losses: list[float] = []  # averaged, of each call
        self._seen: list[float] = []

    def __call__(self, loss: float) -> bool:
        """Whether the loss of the next call is far above the lowest before it."""
        if not math.isfinite(loss):
            return True
        self._seen.append(loss)
        self._sum = _MEMORY * self._sum + (1 - _MEMORY) * loss
        self._weight = _MEMORY * self._weight + (1 - _MEMORY)
        self.losses.append(self._sum / self._weight)
        return self.losses[-1] > _DIVERGED * min(self.losses)

    @property
    def lowest(self) -> float:
        """The rate at which the averaged loss was lowest; 0 if it never was finite, or
        fell by no more than losses differ."""
        if not self.losses:
            return 0.0
        few = math.ceil(_FIRST * len(self._rates) / self._per_call)
        first, later = self._seen[:few], self._seen[few:]
        spread = np.std(first) * math.sqrt((1 - _MEMORY) / (1 + _MEMORY))
        if later and min(self.losses) > np.mean(first) - _CLEAR * spread:
            return 0.0
        return float(self._rates[int(np.argmin(self.losses)) * self._per_call])


def watched(losses: Iterable[float], rates: np.ndarray, per_call: int = 1) -> Watch:
    """The test of which these are the calls' losses."""
    watch = Watch(rates, per_call)
    for loss in losses:
        if watch(loss):
            break
    return watch


def test(bench: Bench, values: Mapping, steps: int, until) -> float:
    """The rate at which the training loss with these settings is lowest, as it rises;
    0 where it never was finite, or fell by no more than losses differ.

    Args:
      steps: at least; a multiple of the phase's steps_per_call.
      until: as in `bench.Bench.train`.
    """
    _, section = bench.changed(values)
    rates = rising(steps)
    watch = Watch(rates, section.steps_per_call)
    name = values.get("optimizer.name", bench.config[bench.name]["optimizer"]["name"])
    said = f"range test of {name}, {steps} steps up to a rate of {HIGHEST:g}"
    ended = bench.train(
        values,
        (steps,),
        rates=rates,
        watch=lambda sums: watch(float(sums["loss"].compute())),
        until=until,
        said=said,
    )
    for _ in ended:
        pass
    steps_taken = len(watch.losses) * section.steps_per_call
    found = f"was lowest at a rate of {watch.lowest:.2g}"
    if not watch.lowest:
        found = "never fell by more than batches differ: this says nothing of its rate"
    logs.say(f"tune: the loss of {name} {found}, after {steps_taken} steps")
    return watch.lowest
