"""Tables whose published numbers lie in a file beside them: every cell has its own."""

import re

import pytest

from experiments import jobs
from experiments.papers import solo_cifar10, usb_cv


@pytest.mark.parametrize(
    "module, tasks, lacking",
    [(solo_cifar10, 27, ()), (usb_cv, 204, ("crmatch-stl10_100",))],
)
def test_every_cell_has_what_was_published_and_its_hours(module, tasks, lacking):
    runs = [run for of_table in module.TABLES.values() for run in of_table]
    for run in runs:
        published = next(iter(run.cells.values())).published
        assert bool(re.match(r"\d+\.\d+", published)) != (run.name in lacking), run
        assert run.hours > 0 and run.row in run.name
    assert tasks == 3 * len(runs) and f"--task=1/{tasks}" in module.__doc__


# Of solo-learn's scripts: the head's hidden and last width, the rate for 256 images and
# the weight decay. Barlow Twins' has 0.3 and 1e-4 for a tenth of the loss.
SCRIPTS = {
    "barlow_twins": (2048, 2048, 0.03, 1e-3),
    "byol": (4096, 256, 1.0, 1e-5),
    "dino": (2048, None, 0.3, 1e-6),
    "moco_v3": (4096, 256, 0.3, 1e-6),
    "simclr": (2048, 256, 0.4, 1e-4),
    "simsiam": (2048, 2048, 0.5, 1e-5),
    "supcon": (2048, 256, 0.4, 1e-5),
    "swav": (2048, 128, 0.6, 1e-6),
    "vicreg": (2048, 2048, 0.3, 1e-4),
}


def test_solo_learns_settings_are_its_scripts():
    (runs,) = solo_cifar10.TABLES.values()
    assert {run.name for run in runs} == {*SCRIPTS}
    for run in runs:
        pretrain = jobs.load(run.config, run.overrides).pretrain
        its, rate = pretrain.algorithm, pretrain.optimizer
        found = (its.hidden, its.get("projection"), rate.learning_rate)
        assert (*found, rate.weight_decay) == SCRIPTS[run.name], run.name
        assert (pretrain.batch_size, rate.per_batch) == (256, 256), run.name
        assert pretrain.steps == 1000 * solo_cifar10.EPOCH, run.name
        assert rate.warmup_steps == 10 * solo_cifar10.EPOCH, run.name
        by_sgd = run.name in ("simsiam", "supcon")
        assert (rate.name, rate.clip_lr) == (("lars", True), ("sgd", False))[by_sgd]
    dino = jobs.load(runs[2].config, runs[2].overrides).pretrain.algorithm
    assert (dino.bottleneck, dino.out, dino.clip) == (256, 4096, 0.0)
    assert (dino.teacher_temperature, dino.warmup_steps) == (0.07, 0)
    assert dino.freeze_steps == solo_cifar10.EPOCH
    vicreg = jobs.load(runs[-1].config, runs[-1].overrides).pretrain.algorithm
    # Its variance loss is the sum of both views', ours their mean.
    weights = vicreg.invariance_weight, vicreg.variance_weight / 2
    assert (*weights, vicreg.covariance_weight) == (25, 25, 1)


# Of its augmentations/*.yaml: the least area, brightness, contrast, saturation and hue,
# and the probabilities of blur and of solarizing in both views.
WEAK = (0.4, 0.4, 0.2, 0.1)
ASYMMETRIC = (0.08, *WEAK, (0, 0), (0, 0.2))
SYMMETRIC = (0.08, 0.8, 0.8, 0.8, 0.2, (0.5, 0.5), (0, 0))
VIEWS = {
    "barlow_twins": ASYMMETRIC,
    "byol": ASYMMETRIC,
    "dino": ASYMMETRIC,
    "moco_v3": ASYMMETRIC,
    "simclr": SYMMETRIC,
    "simsiam": (0.08, 0.4, 0.4, 0.4, 0.1, (0.5, 0.5), (0, 0)),  # symmetric_weak
    "supcon": SYMMETRIC,
    "swav": SYMMETRIC,
    "vicreg": (0.2, *WEAK, (0, 0), (0.1, 0.1)),
}


def test_solo_learns_views_are_its_files():
    (runs,) = solo_cifar10.TABLES.values()
    for run in runs:
        views = jobs.load(run.config, run.overrides).pretrain.augment
        least, most = views.area
        colours = (views.brightness, views.contrast, views.saturation, views.hue)
        found = (least, *colours, views.blur, views.solarize)
        assert found == VIEWS[run.name], run.name
        shared = (most, views.jitter, views.grey, views.flip, views.method, views.side)
        assert shared == (1.0, 0.8, 0.2, True, "bicubic", 0), run.name


def test_cells_are_those_of_their_row_and_column():
    (run,) = [r for of in usb_cv.TABLES.values() for r in of if r.name == CELL]
    assert run.cells["40 labels"].published == "16.15 ± 1.89"
    assert run.config == "stl10:usb,fixmatch"
    best = {"test": {"accuracy_best_on_test": 0.75, "accuracy": 0.7}}
    assert run.cells["40 labels"].read(best) == 0.25
    simclr = solo_cifar10.run("simclr", solo_cifar10.published())
    assert simclr.cells["linear"].published == "90.74"


def test_usbs_settings_are_its_files():
    """What config/usb_cv has of FixMatch, and other than of that of a method."""

    def train(config):
        return jobs.load(config).train

    form = {"cifar100": ("small", 2, 5e-4, 0.5), "stl10": ("base", 16, 1e-4, 0.65)}
    for data, contrast in (("cifar100", 1.0), ("stl10", 5.0)):
        its, model = train(f"{data}:usb"), jobs.load(f"{data}:usb").model
        by, lengths = its.optimizer, (its.steps, its.batch_size, its.unlabeled_ratio)
        rates = (by.learning_rate, by.layer_decay)
        assert (model.size, model.patch, *rates) == form[data]
        assert (model.stochastic_depth, by.name, by.weight_decay) == (
            0.2,
            "adamw",
            5e-4,
        )
        assert lengths == (204_800, 8, 1) and its.algorithm.ema_decay == 0
        assert (by.warmup_steps, its.eval_every) == (5_120, 2_048)
        assert train(f"{data}:usb,comatch").algorithm.contrast_weight == contrast
        assert train(f"{data}:usb,vat").algorithm.unlabeled_weight == 1.0
        its = train(f"{data}:usb,sequencematch").optimizer
        assert (its.learning_rate, its.layer_decay) == (5e-5, 1.0)
    assert train("cifar100:usb,flexmatch").optimizer.warmup_steps == 0
    assert train("stl10:usb,flexmatch").optimizer.warmup_steps == 5_120


CELL = "fixmatch-stl10_40"
