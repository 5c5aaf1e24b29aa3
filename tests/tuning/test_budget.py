"""What a search may cost."""

import math

import pytest

from ssl_jax.tuning import budget
from ssl_jax.tuning.budget import Budget, Finals


def test_what_earlier_launches_took_counts():
    now = iter([100.0, 160.0, 160.0, 160.0])
    spent = Budget(600.0, before=200.0, time=lambda: next(now))
    assert spent.spent == 260.0 and spent.left == 340.0
    assert spent.allows(40.0, share=0.5)


def test_what_would_end_too_late_is_not_begun():
    clock = Budget(100.0, time=lambda: 10.0, began=0.0)
    assert clock.allows(90.0) and not clock.allows(91.0)
    assert clock.allows(5.0, share=0.15) and not clock.allows(6.0, share=0.15)
    assert Budget(math.inf, time=lambda: 1e9, began=0.0).allows(1e9, share=0.01)


@pytest.mark.parametrize(
    "seconds, plan",
    [
        (4.0, Finals(3, 3)),
        (6.0, Finals(3, 2)),
        (10.0, Finals(2, 2)),
        (13.0, Finals(3, 1)),
        (20.0, Finals(2, 1)),
        (21.0, Finals(0, 0)),
    ],
)
def test_finals_take_two_fifths_of_the_time_at_most(seconds, plan):
    assert budget.finals(Budget(100.0), seconds) == plan
    assert plan.runs * seconds <= 40.0


@pytest.mark.parametrize(
    "wanted, seconds, steps",
    [
        (1000, 60.0, 999),  # all of them, as near as 9 divides
        (1000, 30.0, 297),
        (1000, 0.9, 9),
        (1000, 0.8, 0),  # not even one step of each part
        (4, 60.0, 9),
    ],
)
def test_a_trial_has_the_steps_that_there_is_time_for(wanted, seconds, steps):
    found = budget.trial_steps(
        wanted, seconds=seconds, steps_per_second=10 if seconds < 60 else 20, multiple=9
    )
    assert found == steps
