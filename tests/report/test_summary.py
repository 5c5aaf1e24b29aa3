"""A run in a few lines."""

import pytest

from ssl_jax.report.summary import summary


@pytest.mark.parametrize(
    "evaluations, said",
    [
        (30, "(median of last 20: 90.00%)"),
        (20, "(median of last 20: 90.00%)"),
        (10, "(median of 10 evaluations: 90.00%)"),
        (1, "(median of 1 evaluation: 90.00%)"),
    ],
)
def test_a_median_says_of_how_many_it_is(evaluations, said):
    test = {"accuracy": 0.95, "accuracy_median20": 0.9, "evaluations": evaluations}
    phase = {"algorithm": "fixmatch.FixMatch", "steps": 1000, "test": test}
    phase |= {"seconds": 50.0, "compile_seconds": 5.0}
    line = summary({"phases": {"train": phase}})
    assert line == (
        "train: fixmatch.FixMatch, 1000 steps in 50 s (+ 5 s compiling), test accuracy "
        f"95.00% {said}"
    )
