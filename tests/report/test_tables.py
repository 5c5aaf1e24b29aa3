"""Comparisons by hand numbers; what may not be mixed is refused; formats are parsed."""

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import launching
from experiments.papers import cifar10_labels
from experiments.tables import digits_methods, few_labels
from ssl_jax.errors import UserError
from ssl_jax.report import __main__, formats, tables
from ssl_jax.workdir import results

RESULTS = Path(__file__).parents[2] / "experiments/results"
BOTH = ("accuracy", "accuracy_best_on_test")


def result(name, seed, *errors, labels=40, data="cifar10", steps=100, **fields):
    """A result.json; `errors` in % are those of BOTH."""
    config = {"name": name, "seed": seed, "data": {"name": data, "num_labels": labels}}
    config["data"]["dir"], config["train"] = f"/{seed}", {"steps": steps, **fields}
    return {
        "name": name,
        "seed": seed,
        "config": config,
        "phases": {"train": {"steps": steps}},
        "test": {f: 1 - e / 100 for f, e in zip(BOTH, errors, strict=False)},
    }


def several(name, *errors, **options):
    return [result(name, seed, error, **options) for seed, error in enumerate(errors)]


def published(figure, error, steps=100, data="cifar10", **more):
    entry = {"figure": figure, "error": error, "source": "a paper", "steps": steps}
    return {data: {"fixmatch": {"40": [entry | more]}}}


def only(rows, method):
    (row,) = [row for row in rows if row.method == method]
    return row


def test_welch_by_hand():
    # One side does not vary: 2 degrees of freedom (a pooled test has 3), for which p is
    # 1 - |t| / sqrt(2 + t^2), and t^2 = 4^2 / (13 / 3).
    assert tables.welch([1, 1], [2, 4, 9]) == pytest.approx(1 - math.sqrt(48 / 74))
    assert tables.welch([2, 4, 9], [1, 1]) == pytest.approx(1 - math.sqrt(48 / 74))
    assert tables.welch([1], [2, 4, 9]) is None
    assert tables.welch([1, 1], [2, 2, 2]) is None


def test_a_paired_test_by_hand():
    # Differences 1, 2, 3: t = 2 / (1 / sqrt(3)) with 2 degrees of freedom.
    t = 2 * math.sqrt(3)
    p = tables.paired([3, 5, 7], [2, 3, 4])
    assert p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert tables.paired([3, 5], [2, 4]) is None and tables.paired([3], [2]) is None


def test_runs_are_paired_by_their_seeds():
    """Whatever their order; by Holm over those that can be tested, two here."""
    ours, floor = {1: 5, 0: 3, 2: 7, 9: 0}, {2: 4, 1: 3, 0: 2, 8: 1}
    p = tables.paired([3, 5, 7], [2, 3, 4])
    pairs = {"above": (ours, floor), "same": (floor, {8: 1}), "apart": (ours, {7: 1})}
    found = tables.paired_by_seed(pairs | {"below": (floor, ours)})
    assert found == {
        "above": ([1, 2, 3], 2 * p),
        "same": ([0], None),  # of one seed there is no test
        "below": ([-1, -2, -3], 2 * p),
    }


def test_holm_by_hand():
    # Sorted: .005 * 4, .01 * 3, .03 * 2, and .04 * 1 is raised to the one before it.
    ps = tables.holm([0.01, 0.04, 0.03, 0.005])
    assert ps == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert tables.holm([0.6, 0.7]) == [1, 1] and tables.holm([]) == []
    # What could not be tested is none of their number.
    assert tables.holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02]


@pytest.mark.parametrize(
    "name, data, method, column",
    [
        ("fixmatch_cifar10", "cifar10", "fixmatch", "cifar10"),
        ("pseudo_label_cifar10_small", "cifar10", "pseudo_label", "cifar10_small"),
        ("fixmatch_cifar10_cta_small", "cifar10", "fixmatch_cta", "cifar10_small"),
        ("fixmatch_cifar10_torchssl", "cifar10", "fixmatch", "cifar10_torchssl"),
        ("fixmatch_svhn", "svhn_cropped", "fixmatch", "svhn"),
        ("fixmatch_cifar10", "svhn_cropped", "fixmatch_cifar10", "svhn_cropped"),
        ("fixmatch_cifar100_debug", "digits", "fixmatch", "cifar100_debug"),
    ],
)
def test_names_say_method_and_column(name, data, method, column):
    config = {"name": name, "data": {"name": data}}
    assert tables.method_and_data(config) == (method, column)


def test_methods_are_tested_against_their_columns_baseline():
    found = [
        *several("fixmatch_cifar10", 1, 1),
        *several("flexmatch_cifar10", 2, 4, 9),
        *several("uda_cifar10", 3, 5, 10),
        *several("dash_cifar10", 7),
        *several("flexmatch_cifar10", 6, 8, labels=250),
    ]
    rows = tables.compare(found)
    at_40 = [row for row in rows if row.labels == 40]
    flexmatch, uda = only(at_40, "flexmatch"), only(at_40, "uda")
    assert (flexmatch.seeds, flexmatch.mean) == ((0, 1, 2), pytest.approx(5))
    assert flexmatch.std == pytest.approx(math.sqrt(13))
    assert (flexmatch.difference, uda.difference) == pytest.approx((4, 5))
    raw = 1 - math.sqrt(48 / 74), 1 - math.sqrt(75 / 101)  # t^2 = 25 / (13 / 3)
    # Of two: dash has one seed, so there is no third test.
    assert uda.p == pytest.approx(2 * raw[1]) and 2 * raw[1] > raw[0]
    assert flexmatch.p == pytest.approx(2 * raw[1])
    dash, fixmatch = only(at_40, "dash"), only(at_40, "fixmatch")
    assert (dash.p, dash.std) == (None, None) and dash.difference == pytest.approx(6)
    assert (fixmatch.difference, fixmatch.p) == (None, None)
    (alone,) = [row for row in rows if row.labels == 250]
    assert (alone.difference, alone.p) == (None, None)
    assert [formats.against(row) for row in (uda, dash, alone)] == [
        "+5.00, p 0.277",
        "+6.00, p -",
        "",
    ]
    better = tables.compare(found, baseline="flexmatch")
    assert only(better[:4], "fixmatch").difference == pytest.approx(-4)


@pytest.mark.parametrize(
    "other, said",
    [
        (
            result("a_cifar10", 1, 5, threshold=0.8),
            "train.threshold = absent .* 0.8 with",
        ),
        (result("a_cifar10", 1, 5, steps=99), "train.steps = 100 with seed 0, 99 with"),
        (result("cifar10_a", 1, 5), "name = "),
        (result("a_cifar10", 0, 5), "two results of seed 0"),
    ],
)
def test_mixed_runs_are_refused(other, said):
    with pytest.raises(UserError, match=f"a on cifar10 with 40 labels .*{said}"):
        tables.compare([result("a_cifar10", 0, 5), other])


def test_what_changes_no_result_may_differ():
    one, other = several("a_cifar10", 5, 7)  # in seed and data.dir
    one["config"]["tensorboard"], other["config"]["tensorboard"] = True, False
    one["config"]["train"]["checkpoint_every"] = 7
    for seed, run in enumerate((one, other)):  # each from the pretraining of its seed
        run["config"]["train"]["start_from"] = f"runs/byol-seed{seed}/pretrain"
    (row,) = tables.compare([one, other])
    assert row.seeds == (0, 1)


def test_published_stands_beside_its_own_figure_only():
    found = [result("fixmatch_cifar10", 0, 9, 5)]
    entries = published("accuracy_best_on_test", 4.97, steps=200)
    last, best = tables.compare(found, published=entries)
    assert (last.published, best.published[0]["error"]) == ((), 4.97)
    first, second = formats.markdown([last, best]).split("\n\nTest error")
    assert "| fixmatch | 9.00 (1) | 100 of 200 |" in first and "4.97" not in first
    assert "| fixmatch | 5.00 (1) | 4.97 [1] | 100 of 200 |" in second
    assert "an oracle" in second and "[1] a paper, 200 steps" in second
    small = result("fixmatch_cifar10_small", 0, 9, 5)
    elsewhere = result("fixmatch_digits", 0, 9, 5, data="digits")
    for row in tables.compare([small, elsewhere], published=entries):
        assert (row.published, row.published_steps) == ((), 0)
    torchssl = result("fixmatch_cifar10_torchssl", 0, 9, 5)
    assert tables.compare([torchssl], published=entries)[1].published


def test_formats_are_parsed():
    found = [
        *several("fixmatch_cifar10", 1, 1),
        *several("supervised_cifar10", 2, 4, 9),
        *several("fixmatch_cifar10_cta", 3, labels=0),
    ]
    rows = tables.compare(found, published=published("accuracy", 13.81, std=3.37))

    lines = list(csv.DictReader(formats.as_csv(rows).splitlines()))
    assert [line["method"] for line in lines] == [row.method for row in rows]
    supervised = only([row for row in rows if row.labels], "supervised")
    line = lines[rows.index(supervised)]
    assert float(line["error"]) == supervised.mean
    assert (float(line["std"]), float(line["p_holm"])) == (supervised.std, supervised.p)
    assert (line["n"], line["seeds"], line["steps"]) == ("3", "0 1 2", "100")
    assert (line["labels"], line["data"], line["published"]) == ("40", "cifar10", "")
    (entry,) = json.loads(lines[rows.index(only(rows, "fixmatch"))]["published"])
    assert (entry["error"], entry["std"]) == (13.81, 3.37)

    text = formats.markdown(rows)
    table = [line.split("|")[1:-1] for line in text.splitlines() if line[:1] == "|"]
    assert {len(line) for line in table} == {7} and len(table) == 2 + 3
    assert [cell.strip() for cell in table[0]] == [
        "method",
        "cifar10, all labels",
        "steps",
        "cifar10, 40 labels",
        "published",
        "against fixmatch",
        "steps",
    ]
    assert "1.00 ± 0.00 (2) | 13.81 ± 3.37 [1]" in text

    latex = formats.latex(rows).splitlines()
    body = [line for line in latex if line.endswith(r" \\")]
    assert [line.count("&") for line in body] == [6] * 4
    assert rf"\begin{{tabular}}{{{'l' * 7}}}" in latex
    rules = [r"\toprule", r"\midrule", r"\bottomrule"]
    assert [line for line in latex if line in rules] == rules
    assert any(line.startswith(r"fixmatch\_cta &") for line in body)
    assert r"in \%, mean $\pm$ std" in "\n".join(latex)


def test_latex_is_escaped():
    assert formats.escape_latex("-1 & 5% of a_b < {#$}") == (
        r"$-$1 \& 5\% of a\_b $<$ \{\#\$\}"
    )
    assert formats.escape_latex("\\^~") == (
        r"\textbackslash{}\textasciicircum{}\textasciitilde{}"
    )


def write(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def test_reads_files_folders_and_workdirs(tmp_path):
    a, b, c, d, e = (result("a_cifar10", seed, 5) for seed in range(5))
    write(tmp_path / "folder/a.json", a)
    write(tmp_path / "folder/published.json", published("accuracy", 1))
    write(tmp_path / "folder/list.json", [1])
    write(tmp_path / "runs/b/result.json", b)
    write(tmp_path / "runs/b/config.json", {"config": b["config"]})
    write(tmp_path / "c.json", c)
    write(tmp_path / "begun/config.json", {"config": b["config"]})
    for found in (d, e):
        results.add_to_table(tmp_path / "folder/table.jsonl", "a", found)
    (tmp_path / "folder/metrics.jsonl").write_text('{"phase": "train", "step": 2}\n{"p')
    results.add_to_table(tmp_path / "speeds.jsonl", "cpu", {"seconds": 1})
    folder, workdir = tmp_path / "folder", tmp_path / "runs/b"
    assert results.read([folder, workdir, tmp_path / "c.json"]) == [a, d, e, b, c]
    assert results.read([folder / "table.jsonl"]) == [d, e]
    assert results.read([workdir.parent, workdir, workdir / "result.json"]) == [b]
    for path, said in {
        "begun": "not finished",
        "nowhere": "does not exist",
        "folder/published.json": "has no result",
        "folder/metrics.jsonl": "has no result",
        "speeds.jsonl": "has no result",
    }.items():
        with pytest.raises(UserError, match=f"{path}.*{said}"):
            results.read([tmp_path / path])
    (tmp_path / "folder/cut.json").write_text('{"name": ')
    with pytest.raises(UserError, match="cut.json is not JSON"):
        results.read([folder])


def test_a_simulation_is_one_result_and_its_rounds_are_none(tmp_path):
    """By its own workdir, or a folder above it."""
    last = result("active_digits", 0, 5, labels=20)
    whole = {**last, "rounds": [{"labels": 20}, {"labels": 25}]}
    write(tmp_path / "runs/w/result.json", whole)
    for r in (1, 2):
        write(tmp_path / f"runs/w/round{r}/result.json", last)
        write(tmp_path / f"runs/w/round{r}/round.json", whole["rounds"][r - 1])
    for path in ("runs", "runs/w"):
        found = results.read([tmp_path / path])
        assert found == [whole]
        (row,) = tables.compare(found, figures=["accuracy"])
        assert (row.labels, row.errors) == (25, pytest.approx((5,)))
    assert results.read([tmp_path / "runs/w/round1"]) == [last]


def test_a_median_of_fewer_than_twenty_evaluations_says_so():
    runs = several("fixmatch_cifar10", 5, 6)
    for run, evaluations in zip(runs, (30, 12), strict=True):
        run["test"] |= {"accuracy_median20": 0.9, "evaluations": evaluations}
    median = "the median of the last 20 evaluations"
    (row,) = tables.compare(runs, figures=["accuracy_median20"])
    written = formats.markdown([row])
    assert f"{median} (of all where there were fewer, 12 at least):" in written
    runs[1]["test"]["evaluations"] = 20
    assert f"{median}:" in formats.markdown(
        tables.compare(runs, figures=["accuracy_median20"])
    )


def test_published_figures_are_read_whole(tmp_path):
    entries = tables.read_published(cifar10_labels.PUBLISHED)["cifar10"]
    assert entries.keys() <= cifar10_labels.METHODS.keys()
    assert all(list(of) == ["40", "250", "4000"] for of in entries.values())
    found = [
        (entry["error"], entry.get("std"))
        for entry in entries["fixmatch"]["40"]
        if entry["figure"] == "accuracy_median20"
    ]
    assert found == [(13.81, 3.37), (7.99, None)]
    for wrong, said in [
        ({"cifar10": {"fixmatch": [1]}}, "data set -> method"),
        (published("error", 5), "figure 'error' is none of"),
        ({"a": {"b": {"40": [{"figure": "accuracy"}]}}}, "a, b, 40 has no error"),
    ]:
        write(tmp_path / "p.json", wrong)
        with pytest.raises(UserError, match=said):
            tables.read_published(tmp_path / "p.json")


def test_the_program(tmp_path):
    for found in [*several("a_cifar10", 5, 7), *several("b_cifar10", 6, 9)]:
        write(tmp_path / f"{found['name']}-{found['seed']}.json", found)
    argv = [tmp_path, "--baseline=a", "--figure=accuracy", "--format=csv"]
    done = subprocess.run(
        [sys.executable, "-m", "ssl_jax.report", *map(str, argv)],
        env={**launching.environment(), "JAX_PLATFORMS": "none"},  # it needs no device
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    a, b = csv.DictReader(done.stdout.splitlines())
    assert (a["method"], float(b["difference"])) == ("a", pytest.approx(1.5))


@pytest.mark.parametrize(
    "argv, said",
    [
        ([], "give result.json files"),
        (["--baseline=c", "r.json"], "--baseline=c is none .* methods; they are: a"),
        (["r.json", "--figure=best"], "--figure=best: value should be one of"),
        (["r.json", "--figure=accuracy_median20"], "none of these .* has accuracy_med"),
        (["r.json", "--base=a"], "Unknown command line flag 'base'"),
        (["r.json", "--published=p.json"], "p.json cannot be read"),
        (["s.json"], "s.json does not exist"),
    ],
)
def test_mistakes_are_one_message(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(Path("r.json"), result("a_cifar10", 0, 5))
    given = flags.FlagValues()
    with pytest.raises(SystemExit) as exit:
        __main__.main(__main__.parse(["report", *argv], given), given)
    out, err = capsys.readouterr()
    assert (exit.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert re.match(f"report: .*{said}", err)


def test_digits_methods_are_found_and_their_table_is_the_reports():
    methods = digits_methods.methods()
    assert {"fixmatch", "supervised"} <= {*methods} and "byol" not in methods
    assert digits_methods.choose(["fixmatch"]) == ["fixmatch"]
    with pytest.raises(UserError, match="there is no byol; there are: .*fixmatch"):
        digits_methods.choose(["fixmatch", "byol"])
    read = results.read_table(RESULTS / "few_labels.jsonl")
    found = [
        run
        for run in few_labels.on("digits", read)
        if few_labels.method_of(run) != "weak"
        and run["config"]["data"]["num_labels"] == 40
    ]
    # The same errors as in the README's table of few_labels.
    row = few_labels.digits(read).splitlines()[-1]
    labels, _, supervised, fixmatch, gap, _ = row.strip("| ").split(" | ")
    assert labels == "40" and float(gap) > 5
    assert digits_methods.table({"any": found}).splitlines()[2:] == [
        "| method | test error | against supervised | against fixmatch | steps |",
        "| --- | --- | --- | --- | --- |",
        f"| fixmatch | {fixmatch} | -{gap}, p < 0.001 |  | 1,000 |",
        f"| supervised | {supervised} |  | +{gap}, p < 0.001 | 1,000 |",
    ]
