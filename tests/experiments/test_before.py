"""A step here and on an earlier commit: who is asked what, and the table."""

from pathlib import Path

import pytest
from absl import flags

from experiments import readme
from experiments.checkouts import ROOT
from experiments.speed import before
from ssl_jax.errors import UserError
from ssl_jax.workdir import results


class Asked:
    """A process whose steps take `seconds`; `log` is what it is asked for."""

    def __init__(self, name, seconds, log, steps_per_call=1):
        self.name, self.seconds, self.log = name, seconds, log
        self.said = {"steps_per_call": steps_per_call}

    def run(self, calls):
        self.log.append((self.name, calls))
        return self.seconds


def test_both_are_asked_in_turn_for_as_many_calls_as_fit():
    log = []
    both = {"before": Asked("before", 2.0, log), "now": Asked("now", 0.25, log, 4)}
    seconds, calls = before.in_turn(both, 3.0, 2)
    assert calls == {"before": 2, "now": 3}  # 3 / (4 * .25)
    assert seconds == {"before": [2.0, 2.0], "now": [0.25, 0.25]}
    assert log == [("before", 1), ("now", 1)] + 2 * [("before", 2), ("now", 3)]


def test_a_launch_answers_at_its_first_step():
    given = ["--config=digits:fixmatch,debug", "--config.tensorboard=False"]
    with before.Answering(ROOT, given) as now:
        assert now.said["git"] == results.git_state()
        assert now.said["versions"] == results.versions()
        assert now.said["device"]["kind"] == "cpu"
        assert 0 < now.run(2) < 60
        workdir = Path(now.folder.name)
        assert workdir.exists()
    assert now.process.returncode == 0 and not workdir.exists()


def test_a_base_that_is_no_commit_is_told():
    given = flags.FlagValues()
    before.define_flags(given)
    given(["before", "--base=nothing-here"])
    with pytest.raises(UserError, match="--base=nothing-here is no commit"):
        before.run(given)


def test_its_table(tmp_path):
    assert "Not measured yet" in readme.written("before", tmp_path)
    one = {
        "name": "fixmatch_digits",
        "median_seconds": {"before": 0.064, "now": 0.032},
        "times_as_fast": 2.0,
        "ratios": [2.0, 1.5, 2.25],
        "commits": {
            "before": {"commit": "1234567890", "clean": True},
            "now": {"commit": "abcdefabcd", "clean": False},
        },
        "devices": {which: {"kind": "cpu", "count": 2} for which in ("before", "now")},
        "cpus": 2,
    }
    results.add_to_table(tmp_path / "before.jsonl", "cpu_fixmatch_digits", one)
    assert readme.written("before", tmp_path).splitlines()[-1] == (
        "| `fixmatch_digits` | cpu, 2 CPU cores | 64 | 32 | 2.00 (1.50 to 2.25) | "
        "1234567 | abcdefa and changes |"
    )


def test_a_ratio_is_of_one_round_and_above_1_where_now_is_faster(monkeypatch):
    log = []

    class Launched(Asked):
        def __init__(self, checkout, flags_given):
            assert flags_given[0] == "--config=digits:fixmatch,debug"
            super().__init__(checkout, 0.5 if checkout == ROOT else 1.5, log)
            self.said |= dict.fromkeys(("git", "device", "versions"), checkout.name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(before, "Answering", Launched)
    given = flags.FlagValues()
    before.define_flags(given)
    given(["before", "--base=HEAD", "--debug"])
    measured = before.measure("digits:fixmatch", Path("base"), given)
    assert measured["ratios"] == [3.0] and measured["times_as_fast"] == 3.0
    assert measured["commits"] == {"before": "base", "now": ROOT.name}
