"""What goes to a GPU's machine and comes back, rehearsed without one."""

import importlib
import importlib.util
import itertools
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from experiments.gpu import machine, packed, parts
from experiments.speed import race, start_tables, steps_per_call
from ssl_jax.data.dataset import of_arrays
from ssl_jax.errors import UserError
from ssl_jax.workdir import settings


def test_a_data_set_comes_out_of_its_files_as_it_went_in(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "BLOCK", 6)
    monkeypatch.setattr(packed, "ACROSS", 4)
    rng = np.random.default_rng(0)
    for C in (1, 3):
        images_NHWC = rng.integers(0, 256, (20, 5, 7, C), np.uint8)
        there = of_arrays(
            images_NHWC[:13],
            np.arange(13) % 3 - 1,
            class_names=("a", "b"),
            test_images_MHWC=images_NHWC[13:],
            test_labels_M=np.arange(7) % 2,
            name=f"of{C}",
        )
        one, two = packed.write(there, [tmp_path / "1", tmp_path / "2"])
        back = packed.read(f"of{C}", tmp_path)
        for ours, theirs in zip(back, there, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert back.labels_N.dtype == np.int32
        two.rename(tmp_path / "elsewhere.zip")
        with pytest.raises(UserError, match=f"of{C} is not whole in .*1/of{C}.zip, of"):
            packed.read(f"of{C}", tmp_path)


def test_a_machine_is_told_all_that_it_lacks_at_once(tmp_path):
    found = {
        "failed": {"clu.metrics": "ModuleNotFoundError: No module named 'clu'"},
        "free_bytes": 2**30,
        "platform": "gpu",
        "kind": "NVIDIA",
        "torch_cuda": False,
    }
    needs = {"torch", "cifar10", "cora"}
    said = list(machine.lacks(found, needs, tmp_path, debug=False))
    begins = ("clu.metrics: ", "memory: 1.0 GiB", "a GPU for PyTorch", "CIFAR-10: 0 of")
    for line, begin in zip(said, (*begins, "Cora: no ind.cora.*"), strict=True):
        assert line.startswith(begin), line
    found = {"failed": {}, "free_bytes": None, "platform": "cpu", "kind": "cpu"}
    (said,) = machine.lacks(found, set(), tmp_path, debug=False)
    assert said == "a GPU: JAX sees cpu; --debug rehearses on that."
    assert not list(machine.lacks(found, set(), tmp_path, debug=True))


def test_a_part_that_fails_is_named_and_stops_no_other(tmp_path, monkeypatch, capsys):
    (tmp_path / "fails.py").write_text("print('why it failed'); raise SystemExit(3)")
    (tmp_path / "waits.py").write_text("import time; time.sleep(60)")
    (tmp_path / "works.py").write_text("print('it works')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(
        parts,
        "PARTS",
        {
            "peers": parts.Part(1, (), lambda asked: [["fails"]]),
            "steps": parts.Part(1, (), lambda asked: [["waits"], ["works"]]),
            "race": parts.Part(18, (), lambda asked: [["works"]]),
        },
    )
    asked = parts.Asked(0.5, True, tmp_path / "out", tmp_path, [], [], 0.0)
    began = time.monotonic()
    wrong = parts.run(["peers", "steps", "race"], asked)
    assert time.monotonic() - began < 20
    assert [line.split(": ")[0] for line in wrong] == ["peers", "steps", "steps"]
    assert wrong[0].endswith("fails: status 3") and "waits: stopped after" in wrong[1]
    assert wrong[2].endswith("works: not begun: no minutes were left")
    said, log = capsys.readouterr().out, (tmp_path / "out/log.txt").read_text()
    for text in ("why it failed", "it works"):
        assert text in said and text in log
    assert '"part": "race"' in (tmp_path / "out/summary.json").read_text()


@pytest.mark.parametrize("debug", [True, False])
def test_every_command_of_a_part_has_flags_that_its_module_knows(tmp_path, debug):
    asked = parts.Asked(
        9.0, debug, tmp_path, tmp_path, ["fixmatch", "flexmatch"], ["40"], 0.0
    )
    for part in parts.PARTS.values():
        for name, *given in part.commands(asked):
            assert f"--results={tmp_path}" in given
            if "torch" in part.needs and importlib.util.find_spec("torch") is None:
                continue
            text = Path(importlib.util.find_spec(name).origin).read_text()
            # One that defines them as it is imported would meet others' here.
            known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)
            if "def define_flags" in text:
                known = flags.FlagValues()
                importlib.import_module(name).define_flags(known)
                known([name, *given])  # or flags.Error
            named = [flag[2:].partition("=")[0].removeprefix("no") for flag in given]
            assert set(named) <= set(known), given


def test_the_table_of_a_race_has_the_errors_by_the_minutes():
    curve = [(30.0, 100, 0.5), (61.0, 200, 0.25), (121.0, 300, 0.125)]
    rows = [
        {"seconds": s, "step": step, "test/accuracy": 1 - error}
        for s, step, error in curve
    ]
    rows.insert(1, {"seconds": 40.0, "step": 150, "train/loss": 1.0})
    assert race.curve(rows) == curve
    one = {"name": "fixmatch", "labels": 40, "curve": curve, "trained": 300}
    one["device"] = {"kind": "GPU"}
    said = start_tables.race({"fixmatch_40": [one | {"steps": 1000}]}).splitlines()[-1]
    cells = [cell.strip() for cell in said.strip("|").split("|")]
    assert cells[:6] == ["fixmatch", "40", "GPU", "50.00", "25.00", ""]
    assert cells[-3:] == ["12.50 at 2.0 min", "300", "1,000"]
    # Of minutes that it was not trained for there is no error.
    more = {"curve": [*curve, (170.0, 400, 0.1)], "steps": 1000}
    said = start_tables.race({"fixmatch_40": [one | more]}).splitlines()[-1]
    assert said.split(" | ")[4:6] == ["25.00", ""]


def test_a_race_that_goes_on_has_the_steps_that_it_began_with():
    def configured():
        known = flags.FlagValues()
        race.define_flags(known)
        known(["race", "--steps_per_call=8"])
        return race.configured("byol_cifar10", 0, known)

    begun, again = configured(), configured()
    race.paced(begun.pretrain, 5000.0, 20)
    assert (begun.pretrain.steps, begun.pretrain.eval_every) == (4960, 248)
    assert begun.pretrain.optimizer.warmup_steps == 248
    assert again.to_dict() != begun.to_dict()
    race.as_paced(again.pretrain, settings.plain(begun.to_dict())["pretrain"])
    assert again.to_dict() == begun.to_dict()
    race.paced(again.pretrain, 1.0, 20)  # a whole call, at least
    assert (again.pretrain.steps, again.pretrain.eval_every) == (8, 8)


def test_a_race_takes_fields_of_its_config():
    def weak_gradient(*given):
        known = flags.FlagValues()
        race.define_flags(known)
        known(["race", *given])
        return race.configured("cifar10", 40, known).train.algorithm.weak_gradient

    field = "--field=train.algorithm.weak_gradient="
    assert (weak_gradient(), weak_gradient(field + "false")) == (True, False)
    with pytest.raises(UserError, match="'no' is no JSON; write <field>=<value>"):
        weak_gradient(field + "no")


def test_the_price_of_determinism_is_held_against_the_same_without():
    def one(deterministic, **median):
        return [{"deterministic": deterministic, "median": median}]

    found = {"a": one(False, **{"1": 0.4, "4": 0.1}), "a_deterministic": one(True)}
    found["a_deterministic"][0]["median"]["1"] = 0.6
    *_, first, fourth, slower = steps_per_call.table(found).splitlines()
    assert first.split(" | ")[2:] == ["400.00", "1.00", " |"]
    assert fourth.split(" | ")[2:4] == ["100.00", "4.00"]
    assert slower.split(" | ")[2:] == ["600.00", "1.00", "1.50 |"]


def test_the_rehearsal_is_of_this_interpreter():
    assert machine.look([])["failed"] == {}, sys.executable


def test_seconds_are_of_a_step_and_not_of_a_call(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(steps_per_call.time, "perf_counter", lambda: next(clock))
    state = 0, 0, lambda state, sums, *_: (state, sums), 0.0
    monkeypatch.setattr(steps_per_call, "compile_phase", lambda phase: state)
    known = flags.FlagValues()
    steps_per_call.define_flags(known)
    known(["x", "--run=digits:supervised", "--debug", "--rounds=1", "--seconds=1"])
    monkeypatch.setattr(steps_per_call.process, "set_up", lambda config: None)
    assert steps_per_call.measure(known, [1, 4])["median"] == {"1": 1.0, "4": 0.25}


def test_a_race_has_the_steps_that_its_minutes_allow(tmp_path, monkeypatch):
    monkeypatch.setattr(race, "RUNS", tmp_path)
    monkeypatch.setattr(race.process, "set_up", lambda config: None)
    monkeypatch.setattr(race, "steps_per_second", lambda *_: 10.0)
    monkeypatch.setattr(race, "train", lambda *args, **kwargs: None)
    known = flags.FlagValues()
    race.define_flags(known)
    known(["race", "--of_minutes=2", "--steps_per_call=1"])
    raced = race.race("digits:fixmatch", 40, 60.0, None, known)
    assert raced["steps"] == pytest.approx(10 * 120 * race.SPENT, rel=0.05)
    assert not raced["over"] and raced["trained"] == 0
    # Stopped, it has saved behind the last row.
    (phase,) = raced["config"]["phases"]
    saves = tmp_path / f"{raced['name']}_40_seed0" / phase / "checkpoints"
    (saves / "37").mkdir(parents=True)
    assert race.race("digits:fixmatch", 40, 60.0, None, known)["trained"] == 37
