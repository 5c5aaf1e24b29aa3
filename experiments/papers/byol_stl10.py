"""BYOL on STL-10 with ResNet-18: probed, and fine-tuned with 1, 10 and 100% of labels.

python -m experiments.papers.byol_stl10 [--dry_run] [--only=byol] [--seeds=0]
    [--task=1/2] [--data_dir=...] [--debug]

See jobs.py for what the flags do. Fine-tuning starts from the pretraining of the
same seed: where tasks share the work, run --only=byol in all of them first.
"""

from experiments import jobs
from experiments.jobs import Cell, Run
from experiments.papers.byol_cifar10 import judge
from experiments.papers.table import table

GPU = (
    "one RTX A6000, by lightly's 122 minutes for 200 epochs of BYOL on CIFAR-10: an "
    "STL-10 image of 64 px costs ResNet-18 as much, since this stem halves it"
)
# Hours an image of 64 px. Of BYOL's 8 passes a network (2 views, each forward, twice
# that backward, and the target's forward) training with labels makes 3, and training
# the head alone 1.
BYOL = 122 / 60 / (200 * 50_000)
STEPS, BATCH = 4000, 256  # of configs/byol_stl10.py:finetune
PROBES = (
    "STL-10, test accuracy in % of what judges frozen features, mean ± std (seeds); "
    "linear is BYOL's protocol, by SGD:"
)
FINETUNED = (
    "STL-10, test accuracy in %, mean ± std (seeds), by the labels that are given; the "
    "first two start from BYOL at 64 px, and the second trains the head alone:"
)
LABELS = {50: "1% (50)", 500: "10% (500)", 0: "100% (5,000)"}  # data.num_labels


def pretraining(name, row, config, hours, linear="", knn_5=""):
    return Run(
        name=name,
        row=row,
        config=config,
        cells={
            "linear": judge("sgd", linear),
            "logistic regression": judge("logistic"),
            "5-NN": judge("knn_5", knn_5),
            "200-NN": judge("knn_200"),
        },
        hours=hours,
        overrides={"phases": ("pretrain", "probe")},
    )


def accuracy(result: dict) -> float:
    return result["test"]["accuracy"]


def finetuning(num_labels: int) -> list[Run]:
    labels = {"data.num_labels": num_labels}
    percent, hours = LABELS[num_labels].split("%")[0], STEPS * BATCH * BYOL
    return [
        Run(
            name=f"finetuned-{percent}",
            row=LABELS[num_labels],
            config="byol_stl10:finetune",
            cells={"fine-tuned": Cell(accuracy)},
            hours=hours * 3 / 8,
            overrides=labels,
            start_from="byol64/pretrain",
        ),
        Run(
            name=f"frozen-{percent}",
            row=LABELS[num_labels],
            config="byol_stl10:finetune",
            cells={"frozen": Cell(accuracy)},
            hours=hours * 1 / 8,
            overrides={**labels, "train.algorithm.frozen": True},
            start_from="byol64/pretrain",
        ),
        Run(
            name=f"supervised-{percent}",
            row=LABELS[num_labels],
            config="byol_stl10:scratch",
            cells={"from scratch": Cell(accuracy)},
            hours=hours * 3 / 8,
            overrides=labels,
        ),
    ]


TABLES = {
    PROBES: [
        pretraining(
            "byol64",
            "BYOL, 64 px",
            "byol_stl10",
            hours=2000 * 105_000 * BYOL,
            linear="91.99 (arXiv:2007.06346, 2,000 epochs)",
            knn_5="88.64 (arXiv:2007.06346, 2,000 epochs)",
        ),
        pretraining(
            "byol96",
            "BYOL, its own views at 96 px",
            "byol_stl10:paper96",
            hours=300 * 105_000 * BYOL * (96 / 64) ** 2,
        ),
    ],
    FINETUNED: [run for num_labels in LABELS for run in finetuning(num_labels)],
}

if __name__ == "__main__":
    jobs.main("byol_stl10", TABLES, GPU, table)
