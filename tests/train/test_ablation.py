"""Parts of runs, and what is trained without them."""

import json

import jax
import numpy as np
import pytest

import tiny
from configs import auto, base, byol_stl10, cifar10, digits, methods
from ssl_jax import algorithms
from ssl_jax.cli import modes
from ssl_jax.core import named
from ssl_jax.errors import UserError
from ssl_jax.train import ablation, sections
from ssl_jax.train import run as runs
from ssl_jax.workdir import handover
from ssl_jax.workdir.workdir import Workdir

BOTH = ("weak", "strong")


def parts(config, asked=BOTH):
    """{part: its fields} of a config whose phases ask for these views."""
    run = sections.parse(config)
    found = ablation.parts(run, {name: asked for name in run.trained})
    return {part.name: part.fields for part in found}


def test_parts_are_what_a_config_has():
    fixmatch = parts(digits.get_config())
    assert list(fixmatch) == [
        *("unlabeled_loss", "threshold", "strong_views", "weak_views", "average"),
        *("average_warmup", "weight_decay", "schedule"),
    ]
    assert fixmatch["unlabeled_loss"] == {"train.algorithm.unlabeled_weight": 0.0}
    assert fixmatch["average_warmup"] == {
        "model.bn_warmup": False,
        "train.algorithm.ema_warmup": False,
    }
    remixmatch = parts(cifar10.get_config("remixmatch"))
    assert len(remixmatch["unlabeled_loss"]) == 3 and "threshold" not in remixmatch


@pytest.mark.parametrize("method", methods.names())
def test_without_the_loss_of_unlabeled_images_nothing_weighs_one(method):
    fields = named.defaults(algorithms.find(methods.names()[method]))
    weights = {field for field in fields if field.endswith("_weight")}
    weights -= {"balanced_weight"}  # ABC's, of a head that has unlabeled_weight as well
    _, off = ablation.PARTS["unlabeled_loss"]
    assert {f"algorithm.{field}" for field in weights} <= off.keys()


def test_what_is_off_or_never_read_is_no_part():
    config = digits.get_config("supervised")
    assert not {"unlabeled_loss", "threshold"} & parts(config).keys()
    weak = parts(config, ["weak"])
    assert "weak_views" in weak and "strong_views" not in weak
    config.train.algorithm.cutmix_alpha = 1.0
    mixed = parts(config, ["weak"])["mixed_images"]
    assert mixed == {"train.algorithm.cutmix_alpha": 0.0}
    config.train.algorithm.cutmix_alpha = 0.0
    config.train.augment.shift = 0  # and no flip: the weak view is the image
    config.train.optimizer.update(weight_decay=0.0, schedule="constant")
    assert parts(config, ["weak"]).keys() == {"average", "average_warmup"}
    assert "threshold" not in parts(cifar10.get_config("freematch"))


def test_the_views_that_a_method_asks_for_are_asked_of_it():
    for method, strong in (("fixmatch.FixMatch", True), ("mixmatch.MixMatch", False)):
        run = sections.parse(tiny.config(method))
        (asked,) = ablation._asked(run, tiny.core.make_mesh()).values()
        assert ("strong" in asked) == strong and "weak" in asked


def chain():
    """Three phases in a row, and a probe of the first."""
    config = tiny.config("supervised.Supervised")
    train = config.train.copy_and_resolve_references()
    train.unlabeled_ratio = 0
    for name, before in (("a", "scratch"), ("b", "a"), ("c", "b")):
        config[name] = train.copy_and_resolve_references()
        config[name].start_from = before
    del config["train"]
    config.phases = ("a", "b", "c")
    return config


def test_without_earlier_phases_the_last_has_their_steps():
    config = chain()
    assert parts(config)["earlier_phases"] == {
        "c.start_from": "scratch",
        "c.steps": 12,
        "phases": ("c",),
    }
    config.c.labels_from = "a"
    assert parts(config)["earlier_phases"] == {
        "c.start_from": "scratch",
        "c.steps": 8,
        "phases": ("a", "c"),
    }
    fork = parts(byol_stl10.get_config("debug"))["earlier_phases"]
    # The baseline from scratch is no part of what is fine-tuned; the pretraining was.
    assert fork["phases"] == ("finetune",) and fork["finetune.steps"] == 8


def test_all_parts_at_once_can_be_parsed():
    """Of phases that are left out, no field is changed."""
    run = sections.parse(chain())
    *_, both = ablation._chosen(run, ablation.parts(run, dict.fromkeys("abc", BOTH)))
    assert both.name == "all_parts"
    assert {field.split(".")[0] for field in both.fields} == {"c", "phases", "model"}
    without = sections.parse(ablation._config(run, both, 3))
    assert list(without.trained) == ["c"] and without.seed == 3


def test_phases_that_a_part_leaves_as_they_are():
    run = sections.parse(chain())

    def same(**fields):
        fields = {name.replace("__", "."): value for name, value in fields.items()}
        return ablation._same(run, ablation.Part("part", "", fields))

    assert same(c__augment__weak="none") == ["a", "b"]
    assert same(b__augment__weak="none") == ["a"]  # which c follows
    assert same(a__augment__weak="none") == same(model__dropout=0.0) == []
    assert same(c__start_from="scratch", phases=("a", "c")) == ["a"]
    assert ablation._same(run, ablation.Part("", "", {})) == []  # the whole run
    taught = chain()
    taught.c.update(labels_from="b", start_from="scratch")
    taught.b.start_from = "scratch"
    run = sections.parse(taught)
    assert same(b__augment__weak="none") == ["a"]  # which labels images for c
    assert same(a__augment__weak="none") == ["b", "c"]
    fork = sections.parse(byol_stl10.get_config("debug"))
    without = ablation.Part("part", "", {"finetune.augment.weak": "none"})
    assert ablation._same(fork, without) == ["supervised", "pretrain", "probe"]


def test_a_run_behind_phases_of_the_whole_is_the_run_trained_anew(tmp_path):
    config = chain()
    config.model = base.model("mlp", features=(8,))
    config.phases = ("a", "b")
    config.b.augment.weak = "shift"
    config.a.augment.weak = "none"
    config.ablate.parts = ("weak_views",)
    ablation.ablate(config, tmp_path / "w")
    part = tmp_path / "w" / "ablation" / "weak_views-seed0"
    brought = (tmp_path / "w" / "a" / "done.json").read_bytes()
    assert (part / "a" / "done.json").read_bytes() == brought  # its seconds, too
    anew = runs.run(Workdir(part).config, tmp_path / "anew")
    ours = Workdir(part).result
    assert {n: own["test"] for n, own in ours["phases"].items()} == {
        n: its["test"] for n, its in anew["phases"].items()
    }
    trees = [
        handover.handed_over("b", ("encoder",), p) for p in (part, tmp_path / "anew")
    ]
    jax.tree.map(np.testing.assert_array_equal, *trees)
    rows = [Workdir(p).journal.rows() for p in (part, tmp_path / "anew")]
    ours, theirs = (
        [(r["phase"], r["step"], r.get("test/accuracy")) for r in each] for each in rows
    )
    assert ours == theirs


def test_phases_are_those_of_the_whole_run_with_the_same_seed(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(ablation, "parts", lambda *_: [part])
    monkeypatch.setattr(
        ablation.brought,
        "bring",
        lambda names, whole, to, config: asked.append((names, whole.path, to.path)),
    )
    result = {"test": {"accuracy": 0.5}, "phases": {}}
    monkeypatch.setattr(runs, "run", lambda *_: result)
    part = ablation.Part("weak_views", "", {"c.augment.weak": "none"})
    config, folder = chain(), tmp_path / "ablation"
    config.ablate.seeds = 2
    ablation.ablate(config, tmp_path)
    assert asked == [
        (["a", "b"], tmp_path, folder / "weak_views-seed0"),
        ([], folder / "whole-seed1", folder / "whole-seed1"),
        (["a", "b"], folder / "whole-seed1", folder / "weak_views-seed1"),
    ]


@pytest.fixture
def trained(monkeypatch):
    """Instead of training: the accuracy is by what is left out, and the seed."""
    calls = []

    def run(config, path, devices=None):
        calls.append((config["seed"], path))
        assert path.parent.name != "ablation" or not config["policy"]
        lost = 0.2 * (config["train"]["algorithm"]["threshold"] == 0)
        lost += 0.05 * (config["train"]["algorithm"]["ema_decay"] == 0)
        lost += 0.01 * config["seed"] * (lost > 0)
        taken = {"seconds": 1, "compile_seconds": 19}
        return {"test": {"accuracy": 0.9 - lost}, "phases": {"train": taken}}

    monkeypatch.setattr(runs, "run", run)
    return calls


def test_each_part_is_left_out_by_each_seed(trained, tmp_path, capsys):
    config = tiny.config()
    config.policy = "/nowhere/policy.json"  # whose settings it has
    config.ablate.update(parts=("average", "threshold"), seeds=3)
    found = ablation.ablate(config, tmp_path)
    # 20 s each, of which most are compiling.
    assert "all of these: 11 runs, about 4 minutes" in capsys.readouterr().err
    assert found == json.loads((tmp_path / "ablation" / "ablation.json").read_text())
    assert trained[0] == (0, tmp_path) and len(trained) == 3 * 4
    folder = tmp_path / "ablation"
    assert trained[-4:] == [
        (2, folder / "whole-seed2"),
        (2, folder / "threshold-seed2"),
        (2, folder / "average-seed2"),
        (2, folder / "all_parts-seed2"),
    ]
    of = {part["name"]: part["runs"] for part in found["parts"]}
    assert [run["accuracy"] for run in found["whole"]] == [0.9] * 3
    losses = [0.9 - run["accuracy"] for run in of["threshold"]]
    assert losses == pytest.approx([0.2, 0.21, 0.22])
    assert [run["seed"] for run in of["all_parts"]] == [0, 1, 2]


def test_what_the_data_settle_is_settled_once(monkeypatch, tmp_path):
    """Without a part of a run by configs/auto.py: the rate would warm up again."""
    trained = []

    def run(config, path, devices=None):
        trained.append(config)
        return {"test": {"accuracy": 0.5}, "phases": {}}

    monkeypatch.setattr(runs, "run", run)
    config = auto.get_config("debug")
    config.model = base.model("mlp", features=(8,))
    for name in config.phases:
        config[name].update(steps=100, eval_every=10)
    config.ablate.parts = ("schedule", "earlier_phases")
    ablation.ablate(config, tmp_path)
    whole, schedule, earlier, _ = (each["semi_supervised"] for each in trained)
    assert all("adapted" in each for each in trained)
    assert whole["optimizer"]["warmup_steps"] == 10
    assert schedule["optimizer"]["warmup_steps"] == 0
    assert (whole["steps"], earlier["steps"]) == (100, 200)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"ablate.parts": ("dropout",)}, "'dropout', which tiny_debug has not; it has"),
        ({"ablate.parts": ("treshold",)}, "'treshold', .* did you mean 'threshold'?"),
        ({"ablate.seeds": 0}, "ablate.seeds=0 must be at least 1"),
        ({"num_seeds": 2}, "num_seeds=2: --mode=ablate .* use num_seeds=1"),
        ({"query.rounds": 1}, "query.rounds=1: --mode=ablate"),
    ],
)
def test_mistakes(change, said, trained, tmp_path):
    config = sections.changed(tiny.config().to_dict(), change)
    with pytest.raises(UserError, match=said):
        ablation.ablate(config, tmp_path)
    assert len(trained) == ("dropout" in said)  # what can be told before it trains is


def test_the_mode_writes_a_page_and_goes_on(tmp_path, capsys):
    """A network on a graph: the soonest compiled."""
    config, path = tiny.config("gcn.GCN"), tmp_path / "w"
    config.ablate.parts = ("schedule",)
    modes.ablate(config, path)
    out = capsys.readouterr().out
    assert "| (the whole run) |" in out
    assert "| the learning rate's schedule |" in out
    page = path / "report.html"
    assert "What each part added" in page.read_text()
    results = sorted(path.glob("**/result.json"))
    before = [file.stat().st_mtime_ns for file in results]
    modes.ablate(config, path)
    assert [file.stat().st_mtime_ns for file in results] == before
    assert capsys.readouterr().out == out
