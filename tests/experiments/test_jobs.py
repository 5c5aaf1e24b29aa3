"""A table's runs are listed, shared out, skipped and collected; tables by hand."""

import json
import re
import shlex
from pathlib import Path

import pytest
from absl import flags

from experiments import command, readme
from experiments import jobs as listed
from experiments.jobs import Cell, Run
from experiments.papers import (
    byol_cifar10,
    byol_stl10,
    cifar10_labels,
    cifar10_lt,
    solo_cifar10,
    table,
    usb_cv,
)
from experiments.tables import few_labels
from ssl_jax.cli import command_line
from ssl_jax.errors import UserError
from ssl_jax.report import tables
from ssl_jax.workdir import results as results_files

ROOT = Path(__file__).parents[2]
EXPERIMENTS = {
    "byol_cifar10": byol_cifar10,
    "byol_stl10": byol_stl10,
    "cifar10_labels": cifar10_labels,
    "cifar10_lt": cifar10_lt,
    "solo_cifar10": solo_cifar10,
    "usb_cv": usb_cv,
}


def runs_of(experiment):
    return [run for runs in EXPERIMENTS[experiment].TABLES.values() for run in runs]


def jobs(experiment, seeds=(0,), only=(), **options):
    runs = listed.choose(runs_of(experiment), only)
    return {job.name: job for job in listed.jobs(experiment, runs, seeds, **options)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # runs/ is relative


def leave(job, *names):
    """What a run would, as far as telling its state goes."""
    config = {"config": json.loads(json.dumps(job.config.to_dict()))}
    for name in names:
        path = job.workdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))


def finish(job):
    markers = [f"{phase}/done.json" for phase in job.config.phases]
    leave(job, "config.json", "result.json", *markers)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_commands_train_the_same_configuration(experiment, debug):
    """All of them, as launch.py parses its command line."""
    chosen = jobs(experiment, [3], data_dir="my data", debug=debug).values()
    for job in list(chosen)[:: 8 if experiment == "usb_cv" else 1]:  # which are alike
        program, script, *given = shlex.split(job.command)
        assert (program, script) == ("python", "launch.py")
        known = flags.FlagValues()
        for name in ("config", "workdir"):
            flags.DEFINE_string(name, "", "", flag_values=known)
        config = command_line.parse(known, ["launch.py", *given])
        assert config.to_dict() == job.config.to_dict()
        assert known.workdir == str(job.workdir)
        assert (job.config.seed, job.config.data.dir) == (3, "my data")
        assert (job.config.data.name == "digits") == debug
        if debug:
            phases = [job.config[name] for name in job.config.phases]
            assert all(phase.steps <= 4 for phase in phases if "steps" in phase)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_run_comes_after_what_it_starts_from(experiment):
    seen = set()
    for job in jobs(experiment, [0, 1]).values():
        if job.needs:
            assert job.needs.parent.name in seen
            assert job.needs.parent.name.endswith(f"-seed{job.config.seed}")
            assert job.config.train.start_from == str(job.needs)
        seen.add(job.name)
    assert len(seen) == 2 * len(runs_of(experiment))  # and no two names are the same


def test_every_job_is_in_one_task():
    chosen = list(jobs("byol_stl10", [0, 1]).values())
    for n in (1, 3, 30):
        tasks = [listed.share(chosen, f"{i + 1}/{n}") for i in range(n)]
        names = [job.name for task in tasks for job in task]
        assert sorted(names) == sorted(job.name for job in chosen)
    assert listed.share(chosen, "2/3")[:2] == [chosen[1], chosen[4]]


@pytest.mark.parametrize("experiment", ["byol_cifar10", "cifar10_labels"])
def test_the_slurm_array_is_as_long_as_the_list(experiment):
    script = (ROOT / f"experiments/papers/{experiment}.sbatch").read_text()
    assert f"experiments.papers.{experiment} " in script
    ends = re.findall(r"^(?:#SBATCH --array=1-|TASKS=)(\d+)$", script, re.M)
    assert ends == [str(3 * len(runs_of(experiment)))] * 2  # seeds 0, 1, 2


def test_only_chooses_by_name_and_row():
    assert list(jobs("byol_cifar10", only=["sims"])) == ["simsiam-seed0"]
    assert list(jobs("byol_stl10", only=["own views", "zen-10"])) == [
        "byol96-seed0",
        "frozen-10-seed0",
        "frozen-100-seed0",
    ]


def program(capsys, *argv, experiment="byol_cifar10"):
    """(status, stdout, stderr)."""
    given, module, status = flags.FlagValues(), EXPERIMENTS[experiment], 0
    listed.define_flags(given)
    try:
        command.parse(experiment, [experiment, *argv], given)
        form = getattr(module, "form", table.table)
        listed.run(experiment, module.TABLES, module.GPU, given, form)
    except SystemExit as exit:
        status = exit.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--only=simsiam,moco", "no run has 'moco'.*byol, simsiam"),
        ("--task=3/2", "--task=3/2 must be .* from 1 to n"),
        ("--task=0/2", "--task=0/2"),
        ("--task=1", "--task=1"),
        ("--seeds=0,one", "--seeds=0,one must be whole numbers"),
        ("--seeds=1,1", "each once"),
        ("--seeds=", "--seeds="),
        ("--seed=1", "Unknown command line flag 'seed'"),
        ("seeds=1", "'seeds=1' is no flag"),
    ],
)
def test_bad_flags_are_one_message(flag, said, capsys):
    status, out, err = program(capsys, flag)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.match(f"byol_cifar10: .*{said}", err)


def test_dry_run_lists_states_hours_and_starts_nothing(capsys, tmp_path):
    first, second, third = jobs("byol_cifar10", [0, 1, 2], only=["byol"]).values()
    finish(first)
    leave(second, "config.json")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = program(capsys, "--dry_run", "--only=byol")
    assert (status, err, sorted(tmp_path.rglob("*"))) == (0, "", before)
    lines = out.splitlines()
    assert lines[0] == "byol-seed0: 10.17 h, finished"  # 1,000 / 200 * 122 minutes
    assert lines[2] == "byol-seed1: 10.17 h, to resume"
    assert lines[4] == "byol-seed2: 10.17 h, new"
    assert lines[5].strip() == third.command
    assert lines[6].startswith("3 runs, 30.5 h, of which 20.3 h are not finished")
    assert "A6000" in lines[6]


def test_a_workdir_of_another_configuration_is_not_called_finished(capsys):
    (job,) = jobs("byol_cifar10", only=["byol"]).values()
    job.config.pretrain.steps = 7
    finish(job)
    _, out, _ = program(capsys, "--dry_run", "--only=byol", "--seeds=0")
    assert "refused" in out and "pretrain.steps = 7 there" in out


def fake_training(monkeypatch, failing=(), stopping=()):
    """train.run without training -> the list of what it was called for."""
    called = []

    def loop_run(config, workdir):
        called.append(workdir.name)
        if workdir.name in failing:
            raise UserError("no such data")
        if workdir.name in stopping:
            return None
        phases = {
            name: {"steps": config[name].steps}
            for name in config.phases
            if "algorithm" in config[name]
        }
        scores = {n: {"accuracy": 0.5} for n in ("sgd", "logistic", "knn_5", "knn_200")}
        result = {"config": json.loads(json.dumps(config.to_dict())), "phases": phases}
        result |= {"test": {"accuracy": 0.25}, "probe": {"learned": scores}}
        result["seed"] = config.seed
        for name in config.phases:
            (workdir / name).mkdir(parents=True)
            (workdir / name / "done.json").write_text("{}")
        (workdir / "config.json").write_text(json.dumps(result))
        (workdir / "result.json").write_text(json.dumps(result))
        return result

    monkeypatch.setattr(listed, "train_phases", loop_run)
    return called


def test_one_failure_does_not_keep_the_others(monkeypatch, capsys):
    called = fake_training(monkeypatch, failing=["byol-seed0"])
    flags = ["--seeds=0,1", "--results=r", "--data_dir=/mine"]
    status, out, err = program(capsys, *flags)
    assert status == 1 and len(called) == 4
    assert err.splitlines() == [
        "byol_cifar10: byol-seed0: no such data",
        "byol_cifar10: not finished: byol-seed0",
    ]
    assert "50.00 (1) | 92.58" in out and "50.00 ± 0.00 (2) | 91.8" in out
    kept = results_files.read_table(Path("r/byol_cifar10.jsonl"))
    seeds = {run: [one["seed"] for one in found] for run, found in kept.items()}
    assert seeds == {"byol": [1], "simsiam": [0, 1]}
    assert kept["byol"][0]["config"]["data"]["dir"] == ""

    called = fake_training(monkeypatch)
    status, again, err = program(capsys, *flags)
    assert (status, err, called) == (0, "", ["byol-seed0"])  # the others are finished
    assert "50.00 ± 0.00 (2) | 92.58" in again


def test_a_signal_ends_it_all(monkeypatch, capsys):
    called = fake_training(monkeypatch, stopping=["byol-seed0"])
    status, out, err = program(capsys, "--results=r")
    assert (status, err, called) == (0, "", ["byol-seed0"])
    assert "the same command goes on" in out and "|" not in out


def test_what_it_needs_is_said_and_waited_for(monkeypatch, capsys):
    """Whatever --only or --task leave out; afterwards it may be deleted."""
    called = fake_training(monkeypatch)
    flags = ["--only=tuned-10,byol64", "--seeds=0", "--results=r"]
    status, out, err = program(capsys, *flags, "--task=2/3", experiment="byol_stl10")
    assert (status, called) == (1, [])
    assert "byol_stl10: finetuned-10-seed0: needs byol64-seed0" in err
    assert "not finished: finetuned-10-seed0" in err
    status, out, err = program(capsys, *flags, experiment="byol_stl10")
    assert (status, err) == (0, "")
    assert called == ["byol64-seed0", "finetuned-10-seed0", "finetuned-100-seed0"]
    assert "| 10% (500) | 25.00 (1) |  |  | 4,000, 0 of 4,000 |" in out
    (job,) = jobs("byol_stl10", only=["finetuned-100"]).values()
    (job.needs / "done.json").unlink()
    assert listed.state(job) == "finished"


def test_cifar10_labels_are_three_tables_of_every_method(capsys):
    for runs, labels in zip(
        cifar10_labels.TABLES.values(), (40, 250, 4000), strict=True
    ):
        assert len(runs) == 21
        assert {run.overrides["data.num_labels"] for run in runs} == {labels}
        for job in listed.jobs("cifar10_labels", runs, [0]):
            of = tables.method_and_data(job.config.to_dict())
            assert of == (job.name.split("-")[0], "cifar10")  # as the report calls it
    flags = ["--dry_run", "--only=fixmatch,supervised"]
    status, out, err = program(capsys, *flags, experiment="cifar10_labels")
    assert (status, err) == (0, "")
    assert (
        "\n27 runs, " in out
    )  # with CTAugment: three, with 3 numbers of labels, seeds
    assert "fixmatch_cta-250-seed2: " in out and "/cifar10.py:fixmatch,cta " in out
    assert "supervised-40-seed0: 2.90 h" in out  # 2^20 / 6.7 / 3600 * 64 / 960


@pytest.mark.parametrize("debug", [False, True])
def test_an_experiment_may_write_its_tables_itself(debug, monkeypatch, capsys):
    """The report's; where all have the same number of labels, in :debug, too."""
    fake_training(monkeypatch)
    flags = ["--only=supervised,fixmatch-", "--seeds=0", "--results=r"]
    if debug:
        flags.append("--debug")
    status, out, err = program(capsys, *flags, experiment="cifar10_labels")
    assert (status, err) == (0, "")
    assert out.count("| fixmatch | 75.00 (1) | ") == 3
    assert out.count("| supervised | 75.00 (1) | +0.00, p - | ") == 3
    assert ("cifar10, 4,000 labels" in out) != debug
    (path,) = Path("r").glob("*.jsonl")
    (old,) = results_files.read_table(path)["supervised-40"]
    old["config"]["seed"] = old["seed"] = 1
    old["config"]["train"]["steps"] = 7
    results_files.add_to_table(path, "supervised-40", old)
    status, out, err = program(capsys, *flags, experiment="cifar10_labels")
    assert status == 2 and "of two configurations: train.steps = " in err


def test_debug_runs_are_kept_apart_and_claim_nothing(monkeypatch, capsys):
    called = fake_training(monkeypatch)
    status, out, _ = program(capsys, "--debug", "--seeds=0", "--results=r")
    assert status == 0 and called == ["byol-seed0", "simsiam-seed0"]
    assert [p.name for p in Path("r").iterdir()] == ["byol_cifar10_debug.jsonl"]
    assert sorted(p.name for p in Path("runs").iterdir()) == ["byol_cifar10_debug"]
    assert "4 of 195,000" in out and "92.58" not in out  # from 4 steps


def collected(*argv):
    given = flags.FlagValues()
    few_labels.define_flags(given)
    command.parse("few_labels", ["few_labels", *argv], given)
    few_labels.main(given)


def test_a_table_of_few_labels_is_trained_collected_and_shown(monkeypatch, capsys):
    called = fake_training(monkeypatch)
    options = ["--labels=40", "--results=r", "--data_dir=/mine"]
    collected("--seeds=0", "--floors=strong", *options)
    assert called == ["fixmatch_digits-40-seed0", "strong_digits-40-seed0"]
    out = capsys.readouterr().out
    assert "workdir runs/few_labels/strong_digits-40-seed0\n" in out
    assert "| 40 | 75.00 (1) | 75.00 (1) | 0.00 | 100% |" in out
    collected("--seeds=1,2", *options)
    out = capsys.readouterr().out
    assert "| 75.00 ± 0.00 (2) | 75.00 ± 0.00 (3) | 75.00 ± 0.00 (3) |" in out
    kept = results_files.read_table(Path("r/few_labels.jsonl"))
    assert {run: len(of_run) for run, of_run in kept.items()} == {
        "fixmatch_digits-40": 3,
        "strong_digits-40": 3,
        "weak_digits-40": 2,
    }
    config = few_labels.configure("digits", "weak", 40, 1)
    of_seed_1 = kept["weak_digits-40"][0]["config"]
    assert of_seed_1 == json.loads(json.dumps(config.to_dict()))

    called = fake_training(monkeypatch, stopping=["strong_digits-40-seed4"])
    collected("--seeds=3,4,5", "--floors=strong", *options)
    assert called[-1] == "strong_digits-40-seed4" and len(called) == 4
    out = capsys.readouterr().out
    assert "the same command goes on" in out and "|" not in out
    with pytest.raises(UserError, match="--seeds=1,1 must be"):
        collected("--seeds=1,1", *options)


def test_the_committed_results_fill_the_documents(monkeypatch, capsys, tmp_path):
    fake_training(monkeypatch)
    filled = []
    monkeypatch.setattr(readme, "RESULTS", tmp_path / "experiments/results")
    monkeypatch.setattr(readme, "fill", lambda: filled.append(True))
    collected("--seeds=0", "--labels=20", "--results=r")
    assert not filled
    collected("--seeds=1", "--labels=20")
    assert filled and (readme.RESULTS / "few_labels.jsonl").exists()
    listed.keep("speed", "", {"seconds": 1}, readme.RESULTS)
    assert len(filled) == 1 and '"seconds": 1' in capsys.readouterr().out
    listed.keep("speed", "cpu", {"seconds": 1}, readme.RESULTS)
    assert len(filled) == 2
    kept = results_files.read_table(readme.RESULTS / "speed.jsonl")
    assert kept == {"cpu": [{"seconds": 1}]}


def test_table_by_hand():
    def run(name, row, column, published=""):
        cells = {column: Cell(lambda result: result["x"], published)}
        return Run(name, row, "digits:fixmatch", cells, 1.0, {"train.steps": 100})

    def results(*shares, steps=100):
        phases = {"train": {"steps": steps}, "probe": {"step": steps}}
        return [{"x": share, "phases": phases} for share in shares]

    runs = [
        run("a", "A", "40", "95.0 (paper)"),
        run("a-250", "A", "250", "96.0 (paper)"),
        run("b", "B", "40"),
    ]
    found = {"a": results(0.90, 0.92, 0.97), "a-250": [], "b": results(0.5)}
    assert table.table(runs, found).splitlines() == [
        "|  | 40 | published | 250 | published | steps |",
        "| --- | --- | --- | --- | --- | --- |",
        # mean 93; deviations -3, -1, 4: variance 26 / 2
        "| A | 93.00 ± 3.61 (3) | 95.0 (paper) |  | 96.0 (paper) | 100, 0 of 100 |",
        "| B | 50.00 (1) |  |  |  | 100 |",
    ]
    # One shorter seed is enough to claim nothing.
    found["a"][1:2] = results(0.92, steps=99)
    assert table.table(runs, found).splitlines()[0::2] == [
        "|  | 40 | 250 | published | steps |",
        "| A | 93.00 ± 3.61 (3) |  | 96.0 (paper) | 99 of 100, 0 of 100 |",
    ]
