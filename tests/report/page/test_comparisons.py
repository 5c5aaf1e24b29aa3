"""Methods and parts compared on a page: differences, tests, and their correction."""

from statistics import fmean

import pytest

from ssl_jax.report import tables
from ssl_jax.report.formats import p_value
from ssl_jax.report.page import ablation, of_several
from ssl_jax.report.page.blocks import Table

WHOLE = {0: 0.90, 1: 0.80, 2: 0.86, 3: 0.84}
PARTS = {  # the second has a seed less, the third none
    "a little": {0: 0.89, 1: 0.80, 2: 0.84, 3: 0.83},
    "much": {0: 0.70, 1: 0.62, 2: 0.65},
    "nothing yet": {},
}


def _runs(accuracies):
    return [{"seed": s, "accuracy": a, "workdir": ""} for s, a in accuracies.items()]


def test_a_part_adds_what_the_seeds_that_both_have_differ_by():
    parts = [
        {"name": what, "what": what, "fields": {}, "runs": _runs(of)}
        for what, of in PARTS.items()
    ]
    _, lines = ablation.table({"whole": _runs(WHOLE), "parts": parts})
    assert [line[0] for line in lines] == ["(the whole run)", "much", "a little"]
    assert lines[0][1:] == ["85.00 ± 4.16 (4)", "", ""]
    gaps, ps = {}, {}
    for what in ("much", "a little"):
        pairs = [(WHOLE[seed], a) for seed, a in PARTS[what].items()]
        gaps[what] = 100 * fmean(ours - its for ours, its in pairs)
        ps[what] = tables.paired(*zip(*pairs, strict=True))
    assert ps["much"] < ps["a little"] < 0.5
    corrected = {"much": 2 * ps["much"], "a little": ps["a little"]}  # Holm's, of two
    for what, runs, added, p in lines[1:]:
        assert added == f"{gaps[what]:+.2f}" and p == p_value(corrected[what])
        assert runs.endswith(f"({len(PARTS[what])})")
    assert gaps["much"] == pytest.approx(100 * (0.20 + 0.18 + 0.21) / 3)


def test_methods_are_corrected_for_how_many_there_are():
    def runs(accuracies):
        results = [
            {
                "seed": seed,
                "test": {"accuracy": accuracy},
                "phases": {"train": {"steps": 10}},
                "config": {"data": {}},
            }
            for seed, accuracy in accuracies.items()
        ]
        return of_several._Runs(results, [])

    little, much = PARTS["a little"], PARTS["much"]
    methods = {"little": little, "much": much, "whole": WHOLE}
    of_method = {method: runs(of) for method, of in methods.items()}
    shown = of_several._compared(of_method, "whole")
    (rows, *_) = (block.rows for block in shown if isinstance(block, Table))
    told = {method: against for method, _, *against, _, _ in rows}
    raw = {
        "little": tables.paired(list(little.values()), list(WHOLE.values())),
        "much": tables.welch(list(much.values()), list(WHOLE.values())),  # no pairs
    }
    assert raw["much"] < raw["little"]
    p = {"little": raw["little"], "much": 2 * raw["much"]}
    assert told == {
        "whole": ["", "", ""],
        "little": ["-1.00", p_value(p["little"]), "4 pairs of seeds"],
        "much": ["-19.33", p_value(p["much"]), "3 and 4 seeds, not paired"],
    }
