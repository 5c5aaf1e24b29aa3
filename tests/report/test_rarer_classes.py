"""Runs some of whose classes were made rarer, compared."""

import pytest

from ssl_jax.report import formats, tables


def several(name, *errors):
    """Results of seeds 0, 1, ..., errors in %."""
    return [
        {
            "seed": seed,
            "config": {"name": name, "data": {"name": "cifar10", "num_labels": 40}},
            "phases": {"train": {"steps": 100}},
            "test": {"accuracy": 1 - error / 100},
        }
        for seed, error in enumerate(errors)
    ]


def test_runs_with_rarer_classes_are_columns_by_gamma_and_told_by_class():
    """An even run has balanced figures too, and is not told by them."""
    even = several("fixmatch_cifar10", 5, 7)
    found = [*even]
    for name, gammas, balanced in [
        ("fixmatch_cifar10", (100, 100), (0.5, 0.52)),
        ("abc_cifar10", (100, 100), (0.6, 0.64)),
        ("fixmatch_cifar10", (20, 0.5), (0.7, 0.8)),
    ]:
        for run, value in zip(several(name, 50, 40), balanced, strict=True):
            fields = dict(
                zip(("gamma_labeled", "gamma_unlabeled"), gammas, strict=True)
            )
            run["config"]["data"] |= {"imbalance": "exponential", **fields}
            run["test"] |= dict.fromkeys(tables.BY_CLASS, value)
            found.append(run)
    for run in even:
        run["config"]["data"] |= {"imbalance": "", "gamma_labeled": 1.0}
        run["test"] |= dict.fromkeys(tables.BY_CLASS, 0.9)
    rows = tables.compare(found)
    at = "cifar10_exponential"
    columns = {(row.data, row.figure) for row in rows if row.figure in tables.BY_CLASS}
    assert columns == {
        (f"{at}{to}", f) for to in ("100", "20to0.5") for f in tables.BY_CLASS
    }
    assert {row.data for row in rows} == {"cifar10", f"{at}100", f"{at}20to0.5"}
    balanced = [row for row in rows if row.figure == "balanced_accuracy"]
    (abc,) = [row for row in balanced if row.method == "abc"]
    assert abc.mean == pytest.approx(38) and abc.difference == pytest.approx(-11)
    text = formats.markdown(balanced)
    assert text.startswith(
        "Test balanced accuracy in %, mean ± std (seeds), of the last"
    )
    (line,) = [line for line in text.splitlines() if line.startswith("| abc")]
    assert line.startswith("| abc | 62.00 ± 2.83 (2) | +11.00, p ")
    assert f"{at}20to0.5, 40 labels" in text and "cifar10, 40" not in text
