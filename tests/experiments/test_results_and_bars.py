"""Committed results are of today's configs, and over the bars that the issues set."""

import json

import numpy as np
import pytest

from committed import RESULTS, assert_of_today, every, read
from experiments import timm_parity
from experiments.speed.tables import BENCHMARK
from experiments.tables import (
    active_digits,
    autoencoder_mnist,
    byol_cifar10_small,
    byol_digits,
    cifar10_small,
    digits_methods,
    few_labels,
    imbalance,
    no_labels,
    pseudo_label_mnist,
    representations,
)
from ssl_jax.report import tables
from ssl_jax.workdir.journal import Journal


@pytest.mark.parametrize("data", few_labels.DATA)
def test_results_are_of_todays_configs(data):
    found = few_labels.on(data, read("few_labels"))
    assert len(found) == {"digits": 30, "mnist": 3}[data]
    for result in found:
        method = few_labels.method_of(result)
        num_labels = result["config"]["data"]["num_labels"]
        config = few_labels.configure(data, method, num_labels, result["seed"])
        assert_of_today(config, result["config"])


def test_fixmatch_makes_at_most_half_of_the_floors_errors():
    """And the floor is none of straw: at most 12% with 40 labels (the issue's bars)."""
    errors = few_labels.errors(few_labels.on("digits", read("few_labels")))
    assert {len(seeds) for seeds in errors.values()} == {5}
    for labels in (20, 40):
        floor = min(np.mean(errors[labels, view]) for view in few_labels.FLOORS)
        assert np.mean(errors[labels, "fixmatch"]) <= floor / 2
    assert floor <= 0.12


def test_methods_on_digits_table_and_its_bars():
    results = every(read("digits_methods"))
    for result in results:
        method = result["name"].removesuffix("_digits")
        config = digits_methods.configure(method, result["seed"])
        assert_of_today(config, result["config"])
    rows = {row.method: row for row in tables.compare(results, figures=["accuracy"])}
    # The example of README, which a test above may have added, has no results.
    assert set(rows) == {*digits_methods.methods()} - {"entropy"}
    assert {len(row.errors) for row in rows.values()} == {5}
    bar = rows["fixmatch"].mean + rows["fixmatch"].std  # the issue's, in errors
    for method in ("flexmatch", "freematch", "softmatch", "adamatch"):
        assert rows[method].mean <= bar, method
    for row in tables.compare(results, "supervised", figures=["accuracy"]):
        if row.method != "supervised":
            worse = row.mean > rows["supervised"].mean
            assert not (worse and row.p < 0.05), row.method


# Remedies surely above FixMatch, by (data set, imbalance).
SURE = {
    ("digits", 20): {"darp", "crest"},
    ("cifar10", 20): {*imbalance.REMEDIES},
}


def test_imbalance_table_and_its_bar():
    """Its results are of today's configs, and remedies are paired with FixMatch, which
    one at least is better than; and what docs/results.md says of them."""
    there = {}  # (data set, imbalance) -> method -> {seed: result}
    for result in every(read("imbalance")):
        data, method = result["config"]["data"], imbalance.method_of(result)
        at = data["name"], int(data["gamma_labeled"])
        there.setdefault(at, {}).setdefault(method, {})[result["seed"]] = result
        config = imbalance.configure(at[0], method, at[1], result["seed"])
        assert_of_today(config, result["config"])
    assert set(there) == {(data, g) for data in imbalance.DATA for g in (20, 100)}
    for (data, gamma), of in there.items():
        alone = {imbalance.ONE_PASS} if data == "cifar10" else set()
        assert set(of) == {*imbalance.METHODS} - alone, (data, gamma)
        seeds = range(5 if gamma == 20 else 3)
        assert all([*runs] == [*seeds] for runs in of.values()), (data, gamma)
        gains = imbalance.gains(of)
        above = {remedy: np.mean(gains[remedy][0]) for remedy in imbalance.REMEDIES}
        sure = {remedy for remedy in above if gains[remedy][1] < 0.05}
        if gamma == 20 or data == "cifar10":
            assert min(above.values()) > 0, (data, gamma)
        assert sure == SURE.get((data, gamma), set()), (data, gamma)
        if data == "cifar10":
            farthest = "abc" if gamma == 20 else "logit_adjustment"
            assert max(above, key=above.get) == farthest
        elif gamma == 20:
            assert np.mean(gains[imbalance.ONE_PASS][0]) < above["daso"] / 3
    assert imbalance.digits({}) == imbalance.cifar10({}) == "Not measured yet."

    def made(method, gamma, seed, accuracy):
        config = imbalance.configure("digits", method, gamma, seed)
        figures = dict.fromkeys(("geometric_mean", "f1"), accuracy / 2)
        return {
            "seed": seed,
            "config": config.to_dict(),
            "data": {"classes": {"0": 20, "1": 1}, "unlabeled": 363},
            "phases": {"train": {"steps": 1000}},
            "test": {"balanced_accuracy": accuracy, **figures},
        }

    floors = [made("fixmatch", 20, seed, 0.5 + seed / 100) for seed in (2, 0, 1)]
    ours = [made("logit_adjustment", 20, s, 0.6 + s / 50) for s in range(3)]
    alone = [made("logit_adjustment", 100, 0, 0.3)]
    assert ours[0]["config"]["data"]["num_labels"] == 200
    told = imbalance.digits({"a": ours + alone, "b": floors}).splitlines()[2:]
    figures = "62.00 ± 2.00 (3) | 31.00 ± 1.00 (3) | 31.00 ± 1.00 (3)"
    at = "21 and 363 |"
    assert told[2].startswith(f"| 20 | {at} fixmatch | 51.00 ± 1.00 (3) | 25.50 ± ")
    gap = "11.00 ± 1.00 (3), p 0.003"
    assert told[3] == f"| 20 | {at} logit_adjustment | {figures} | {gap} | 1,000 |"
    # Without FixMatch there is nothing to be above.
    alone = "30.00 (1) | 15.00 (1) | 15.00 (1)"
    assert told[4:] == [f"| 100 | {at} logit_adjustment | {alone} |  | 1,000 |"]


def test_every_network_was_found_to_be_timms():
    text = (RESULTS / "timm_parity.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    found = [(line["network"], line["file"]) for line in lines]
    forms = (".safetensors", ".pth")
    assert found == [(name, form) for name in timm_parity.NETWORKS for form in forms]
    assert all(line["git"]["clean"] for line in lines)
    assert [line for line in lines if not timm_parity.equal(line)] == []
    worse = lines[0] | {"largest_difference": 2e-4 * lines[0]["largest_logit"]}
    more = lines[0] | {"ours": lines[0]["ours"] + 1}
    assert not timm_parity.equal(worse) and not timm_parity.equal(more)


def test_pseudo_labels_on_mnist_table_and_its_bars():
    results = read("pseudo_label_mnist")
    assert set(results) == set(pseudo_label_mnist.WORDS)
    for kind, seeds in results.items():
        assert len(seeds) == 3
        for result in seeds:
            config = pseudo_label_mnist.configure(kind, result["seed"])
            assert_of_today(config, result["config"])
            seconds = [phase["seconds"] for phase in result["phases"].values()]
            assert sum(seconds) <= 20 * 60
    supervised, ours = pseudo_label_mnist.accuracies(results["strong"])
    assert np.mean(ours) >= 0.989 and np.mean(ours) > np.mean(supervised)


def test_methods_beat_supervised_on_cifar10():
    """After the same steps, and the issue's hour of training each."""
    results = {method: one for method, (one,) in read("cifar10_small").items()}
    assert set(results) == set(cifar10_small.METHODS)
    for method, result in results.items():
        assert_of_today(cifar10_small.configure(method), result["config"])
    accuracy = {m: result["test"]["accuracy"] for m, result in results.items()}
    for method in accuracy.keys() - {"supervised"}:
        assert results[method]["phases"]["train"]["seconds"] >= 3600
        if method != "comatch":  # docs/results.md says so
            assert accuracy[method] > accuracy["supervised"] + 0.02
    assert min(accuracy, key=accuracy.get) == "supervised"
    assert max(accuracy, key=accuracy.get) == "simmatch"


def test_byol_digits_table_and_its_bars():
    results = every(read("byol_digits"))
    for result in results:
        assert_of_today(byol_digits.configure(result["seed"]), result["config"])
    learned, random, _, alone = (
        100 * np.mean(values) for values in byol_digits.accuracies(results).values()
    )
    assert len(results) == 5
    assert learned >= alone + 2 and learned >= random + 10  # the bars


def test_knn_rises_on_cifar10_and_beats_the_untrained_encoder():
    (result,) = every(read("byol_cifar10_small"))
    assert_of_today(byol_cifar10_small.configure(), result["config"])
    rows = Journal(RESULTS / "byol_cifar10_small/byol_metrics.jsonl").rows()
    knn = [row["test/knn_accuracy"] for row in rows if "test/knn_accuracy" in row]
    assert len(knn) == 10 and np.polyfit(range(10), knn, 1)[0] > 0
    probe = result["probe"]
    gain = probe["learned"]["knn_5"]["accuracy"] - probe["random"]["knn_5"]["accuracy"]
    assert gain >= 0.08  # the bar


def test_representations_are_8_points_above_their_untrained_encoders():
    """The issue's bar, in 5-NN (MAE: linear), and how its tables tell of it."""
    there = read("representations")
    for method in representations.METHODS:
        for data, wanted in (("digits", [0, 1, 2]), ("cifar10", [0])):
            seeds = [result["seed"] for result in there[f"{method}_{data}"]]
            assert seeds == wanted, (method, data)
    for run, seeds in there.items():
        method, _, data = run.rpartition("_")
        for result in seeds:
            today = representations.configure(data, method, result["seed"])
            assert_of_today(today, result["config"])
        probe = "logistic" if method == "mae" else "knn_5"
        gains = representations.accuracies(seeds, probe)["gain"]
        assert np.mean(gains) >= 0.08, run

    def made(knn, linear):
        def scores(lower):
            shares = {"knn_5": knn - lower, "logistic": linear - lower}
            return {name: {"accuracy": share} for name, share in shares.items()}

        timed = {"steps": 1500, "seconds": 110, "compile_seconds": 10}
        return {
            "probe": {"learned": scores(0), "random": scores(0.25)},
            "phases": {"pretrain": timed, "probe": {"labels": 40}},
        }

    found = {"moco_digits": [made(0.5, 0.75), made(0.75, 1.0)]}
    told = representations.table(found, "digits")
    learned = "62.50 ± 17.68 (2) | 37.50 ± 17.68 (2) | 25.00 ± 0.00 (2)"
    linear = "87.50 ± 17.68 (2) | 62.50 ± 17.68 (2) | 25.00 ± 0.00 (2)"
    assert told.endswith(f"| moco | {learned} | {linear} | 1,500 | 2 |")
    assert "with 40 labels" in told
    for seed, result in enumerate(found["moco_digits"]):
        result["probe"]["pixels"] = result["probe"]["random"]
        result["seed"] = seed
    pixels = "37.50 ± 17.68 (2) |  |  | 62.50 ± 17.68 (2) |  |  |  |  |"
    told = representations.table(found, "digits")
    assert told.endswith(f"| raw pixels | {pixels}")
    assert representations.table(found, "cifar10") == "Not measured yet."


def test_autoencoder_table_and_its_bars():
    results = read("autoencoder_mnist")
    assert {kind: len(seeds) for kind, seeds in results.items()} == (
        autoencoder_mnist.SEEDS
    )
    for kind, seeds in results.items():
        for result in seeds:
            config = autoencoder_mnist.configure(kind, result["seed"])
            assert_of_today(config, result["config"])
    tutorial = [result["phases"] for result in results["tutorial"]]
    loss = np.mean([p["pretrain"]["test"]["reconstruction_loss"] for p in tutorial])
    accuracy = np.mean([p["finetune"]["test"]["accuracy"] for p in tutorial])
    assert abs(loss - 0.0984) <= 0.003 and abs(accuracy - 0.824) <= 0.02
    gains = autoencoder_mnist.gains(results, "denoising", "denoising")
    assert len(gains) == 5 and np.mean(gains) >= 0.02

    def made(seed, pretrained, scratch):
        phases = {"finetune": pretrained, "supervised": scratch}
        phases = {name: {"test": {"accuracy": a}} for name, a in phases.items()}
        pretrain = {"test": {"reconstruction_loss": 0.1}}
        return {"seed": seed, "phases": phases | {"pretrain": pretrain}}

    ours = [made(seed, 0.8 + seed / 100, 0.5) for seed in range(3)]
    scratch = [made(seed, 0.0, 0.7 + seed / 50) for seed in (2, 3, 0, 1)]
    told = {"tutorial": ours, "denoising": ours, "scratch": scratch}
    (last,) = autoencoder_mnist.table(told).splitlines()[-1:]
    assert last.endswith("| 73.00 ± 2.58 (4) | 9.00 ± 1.00 (3) |")


def test_active_digits_tables_and_their_bar():
    """On the example's images, by ten random seeds: the issue's 4 points."""
    results = every(read("active_digits"))
    assert len(results) == 100
    for result in results:
        strategy = result["config"]["query"]["strategy"]
        setting = active_digits.setting_of(result)
        config = active_digits.configure(setting, strategy, result["seed"])
        assert_of_today(config, result["config"])
    example = [r for r in results if active_digits.setting_of(r) == "example"]
    for accuracy_SR_of in active_digits.accuracies(example).values():
        entropy, random = (accuracy_SR_of[name] for name in ("entropy", "random"))
        assert len(random) == 10
        assert entropy[:, -1].mean() >= random[:, -1].mean() + 0.04


def test_no_labels_table_and_its_bar():
    """30 answers to questions beat 30 at random (issue 15), in the mean of 5 seeds."""
    results = read("no_labels")["byol"]
    assert [result["seed"] for result in results] == [0, 1, 2, 3, 4]
    for result in results:
        assert_of_today(no_labels.configure(result["seed"]), result["config"])
        assert result["data"]["classes"] == result["test"] == {}
        assert len(result["answers"]["random"]) == no_labels.DRAWS
    accuracy_S_of = no_labels.accuracies(results)
    assert np.mean(accuracy_S_of["typical"]) > np.mean(accuracy_S_of["random"])
    # Paired, by seeds, against the mean of that seed's draws.
    made = [
        {"typical": {"accuracy": 0.5}, "k_center": {"accuracy": 0.1}, "all": {}},
        {"typical": {"accuracy": 0.6}, "k_center": {"accuracy": 0.2}, "all": {}},
    ]
    draws = [[0.2, 0.4], [0.4, 0.6]]
    for answers, drawn in zip(made, draws, strict=True):
        answers["random"] = [{"accuracy": accuracy} for accuracy in drawn]
        answers["all"] = {"accuracy": 0.9}
        for entry in (
            *answers["random"],
            *map(answers.get, ("typical", "k_center", "all")),
        ):
            entry["classes"] = 8
    timed = {"phases": {"pretrain": {"seconds": 120, "compile_seconds": 60}}}
    told = no_labels.table({"byol": [{"answers": one} | timed for one in made]})
    # 0.205 alone; by Holm not below the other's 0.126, twice.
    assert "| typical | 55.00 ± 7.07 (2) | 15.00 ± 7.07 (2), p 0.251 | 8.0 |" in told
    assert "| -25.00 ± 7.07 (2), p 0.251 |" in told
    assert "| random | 40.00 ± 14.14 (2) |  | 8.0 |" in told
    assert "took 3 minutes of a shared core, with compiling" in told
    assert told.index("| typical") < told.index("| k center")


def test_a_run_that_was_killed_is_the_run_that_was_not():
    for how, (report,) in read("kill_resume").items():
        assert report["differences"] == [], how
        assert report["resumed"] >= 10 and len(report["kills"]) >= 10


def test_gcn_on_cora_and_its_bars():
    (result,) = read("gcn_cora")["gcn"]
    accuracies = [one["accuracy"] for one in result["seeds"]]
    assert len(accuracies) == 100 and abs(np.mean(accuracies) - 0.815) <= 0.003
    assert result["wall_seconds"] <= 90


def test_gcn_beside_pytorch_geometric():
    """The issue's 10 times hold for its own example's form; not for sparse features."""
    (measured,) = read("benchmark_gcn")["cpu"]
    assert measured["seconds"]["pyg_dense"] >= 10 * measured["seconds"]["ssl_jax"]
    assert measured["ratio"] > 1


def test_label_spreading_past_scikit_learns_limit_and_its_bars():
    (measured,) = read("label_spreading_scale")["cpu"]
    exact = measured["mnist_rbf"]
    assert exact["rows"] == 60_000 and exact["graph"] == "blocks"
    assert exact["peak_bytes"] < 3 * 2**30
    knn = measured["mnist_knn"]
    assert knn["rounds"]["auto"][0]["rows"] == 60_000
    assert min(knn["ratio"].values()) >= 2
    assert min(knn["same_labels"].values()) >= 0.995
    million = measured["scale"]["ssl_jax knn, 1,000,000 rows"]
    assert million["graph"] == "approximate" and million["converged"]
    assert million["seconds"] <= 600 and million["peak_bytes"] <= 8 * 2**30


def test_benchmark_and_its_bars():
    (results,) = read("benchmark")[BENCHMARK]
    assert results["runs"][0]["loop_to_bare"] >= 0.95  # the bars
    assert results["randaugment_against_pillow"]["ratio"] >= 1


def test_measured_bars_of_the_representation_experiments():
    """k-NN, Keras's autoencoder and the online probe, each measured on an idle machine
    by the experiment that is named like its result."""

    def measured(experiment, name="cpu"):
        (found,) = read(experiment)[name]
        return found

    knn = measured("knn_speed")
    assert min(knn["ratios"]) >= 2 and set(knn["different_predictions"].values()) == {0}
    assert measured("autoencoder_keras")["median_ratio"] <= 0.5
    ratios = measured("benchmark", "methods_cpu")["median_ratio"]
    assert ratios["flexmatch_cifar10_small"] <= 1.05
    assert ratios["fixmatch_cifar10_cta_small"] <= 1.10
    assert measured("probe_cost")["cost"] + measured("probe_cost")["noise"] <= 0.03
