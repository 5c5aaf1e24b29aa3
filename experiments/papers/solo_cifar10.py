"""solo-learn's CIFAR-10 table: self-supervised methods, ResNet-18, 1,000 epochs.

python -m experiments.papers.solo_cifar10 [--dry_run] [--only=simclr] [--seeds=0]
    [--task=1/27] [--data_dir=...] [--debug]

See jobs.py for what the flags do. Settings are those of vturrisi/solo-learn at 9187ea3,
scripts/pretrain/cifar/, over configs/byol_cifar10.py, which are its BYOL's; the
published numbers, one run each and linear, lie in solo_cifar10.csv, its README's.

Departures, beside those of the methods' own files: linear is judged after training, by
the protocol of `byol_cifar10`, where they train the linear layer beside the encoder and
report its last epoch; a blur is of 3x3 pixels, BYOL's tenth of the side, where Pillow's
reaches as far as its sigma of up to 2 asks; SwAV has no queue, and prototypes that are
brought to length 1 before each step, where theirs have weight normalisation; SimCLR's
and SupCon's heads have BatchNorm, where theirs have none; and SupCon's loss is the mean
of its positives' logarithms, the paper's, where theirs is the logarithm of their sum.
Of their rows all4one, deepcluster_v2, moco_v2plus, nnclr, ressl, vibcreg and w_mse are
methods that are not here.
"""

import csv
from pathlib import Path

from configs.byol_cifar10 import EPOCH
from experiments import jobs
from experiments.jobs import Run
from experiments.papers.byol_cifar10 import EPOCH_HOURS, judge
from experiments.papers.table import table

GPU = "one RTX A6000, by lightly's 122 minutes for 200 epochs of BYOL, for all alike"
PUBLISHED = Path(__file__).parent / "solo_cifar10.csv"
CAPTION = (
    "CIFAR-10, test accuracy in % of what judges frozen features, mean ± std (seeds); "
    "linear is BYOL's protocol, by SGD; published is solo-learn's, one run:"
)
STRONG = {  # augmentations/symmetric.yaml
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "blur": (0.5, 0.5),
    "solarize": (0.0, 0.0),
}
VICREG = {"area": (0.2, 1.0), "solarize": (0.1, 0.1)}
CONTRASTED = {
    "algorithm.hidden": 2048,
    "algorithm.projection": 256,
    "algorithm.temperature": 0.2,
}
LARGE = {"area": (0.08, 1.0)}  # of views that would have small ones beside them
METHODS = {  # as published -> word, and what differs from BYOL's: phase.field -> value
    "barlow_twins": (
        "barlow_twins",
        {"algorithm.hidden": 2048, "algorithm.projection": 2048},
        # Theirs are 0.3 and 1e-4 on a tenth of the loss (scale_loss), which moves all
        # but the online probe as this does: LARS with clip_lr is not blind to scale.
        {"learning_rate": 0.03, "weight_decay": 1e-3},
        {},
    ),
    "byol": ("byol", {}, {}, {}),
    "dino": (
        "dino",
        {
            "algorithm.hidden": 2048,
            "algorithm.out": 4096,
            "algorithm.momentum": 0.9995,
            "algorithm.teacher_temperature": 0.07,
            "algorithm.clip": 0.0,
            "algorithm.freeze_steps": EPOCH,
            "algorithm.small_crops": 0,
        },
        {"learning_rate": 0.3, "weight_decay": 1e-6},
        LARGE,
    ),
    "moco_v3": ("moco", {}, {"learning_rate": 0.3, "weight_decay": 1e-6}, {}),
    "simclr": (
        "simclr",
        CONTRASTED,
        {"learning_rate": 0.4, "weight_decay": 1e-4},
        STRONG,
    ),
    "simsiam": (
        "simsiam",  # whose config is its paper's
        {"steps": 1000 * EPOCH, "batch_size": 256},
        {"learning_rate": 0.5, "weight_decay": 1e-5, "warmup_steps": 10 * EPOCH},
        {"area": (0.08, 1.0), "method": "bicubic", "blur": (0.5, 0.5)},
    ),
    "supcon": (
        "supcon",
        CONTRASTED,
        {"name": "sgd", "learning_rate": 0.4, "clip_lr": False, "decay_on": "all"},
        STRONG,
    ),
    "swav": (
        "swav",
        {
            "algorithm.hidden": 2048,
            "algorithm.projection": 128,
            "algorithm.freeze_steps": 2 * EPOCH,
            "algorithm.small_crops": 0,
        },
        {"learning_rate": 0.6, "weight_decay": 1e-6},
        STRONG | LARGE,
    ),
    "vicreg": (
        "vicreg",
        {
            "algorithm.hidden": 2048,
            "algorithm.projection": 2048,
            # Theirs is 25 times the sum of both views' terms, here it is of their mean.
            "algorithm.variance_weight": 50.0,
        },
        {"learning_rate": 0.3, "weight_decay": 1e-4},
        VICREG,
    ),
}


def run(method: str, published: dict[str, str]) -> Run:
    word, algorithm, optimizer, views = METHODS[method]
    overrides = {
        **{f"pretrain.{field}": value for field, value in algorithm.items()},
        **{f"pretrain.optimizer.{field}": v for field, v in optimizer.items()},
        **{f"pretrain.augment.{field}": value for field, value in views.items()},
    }
    if method == "simsiam":
        overrides["model.zero_init_residual"] = False
    return Run(
        name=method,
        row=method,
        config=f"byol_cifar10:{word}",
        cells={
            "linear": judge("sgd", published[method]),
            "5-NN": judge("knn_5"),
            "200-NN": judge("knn_200"),
        },
        hours=1000 * EPOCH_HOURS,
        overrides=overrides,
    )


def published() -> dict[str, str]:
    """Method -> accuracy in %."""
    with PUBLISHED.open(newline="") as file:
        return {row["method"]: row["acc1"] for row in csv.DictReader(file)}


TABLES = {CAPTION: [run(method, published()) for method in METHODS]}

if __name__ == "__main__":
    jobs.main("solo_cifar10", TABLES, GPU, table)
