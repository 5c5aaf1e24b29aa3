"""What a search may cost, and how it keeps to it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Of all that it may take: by then nothing new begins that would end later.
BATCH_SIZE, LEARNING_RATE, FINALS = 0.15, 0.15, 0.4
TRIAL = 0.1  # one trial at most, trained to its end
COMPILING = 0.05  # a program, where trials may need programs of their own


@dataclass(frozen=True)
class Budget:
    """Seconds over all launches; math.inf where there is no limit.

    Args:
      before: what earlier launches took.
      time: in seconds, from whenever.
    """

    total: float
    before: float = 0.0
    time: Callable[[], float] = time.monotonic
    began: float = field(default=math.nan)

    def __post_init__(self):
        if math.isnan(self.began):
            object.__setattr__(self, "began", self.time())

    @property
    def spent(self) -> float:
        return self.before + self.time() - self.began

    @property
    def left(self) -> float:
        return self.total - self.spent

    def allows(self, seconds: float, share: float = 1.0) -> bool:
        """Whether what takes `seconds` ends before `share` of the whole is spent."""
        return self.spent + seconds <= share * self.total


@dataclass(frozen=True)
class Finals:
    """So many candidates, each trained so often, on other labels each time."""

    candidates: int
    rounds: int

    @property
    def runs(self) -> int:
        return self.candidates * self.rounds


def finals(budget: Budget, run_seconds: float) -> Finals:
    """The most that fit into their share of the budget: of none, none."""
    if math.isinf(budget.total):
        return Finals(2, 2)
    plans = [Finals(3, 3), Finals(3, 2), Finals(2, 2), Finals(3, 1), Finals(2, 1)]
    for plan in plans:
        if plan.runs * run_seconds <= FINALS * budget.total:
            return plan
    return Finals(0, 0)


def trial_steps(
    wanted: int, *, seconds: float, steps_per_second: float, multiple: int
) -> int:
    """Steps of a trial, a multiple of `multiple`: as many as `wanted`, or as take
    `seconds`; 0 if not even `multiple` of them do."""
    most = min(float(wanted), seconds * steps_per_second)
    if wanted <= most:  # the last call may go beyond a multiple that is none of ours
        return max(round(wanted / multiple), 1) * multiple
    return int(most / multiple) * multiple
