"""BYOL and SimSiam on CIFAR-10 with ResNet-18, as published: probes and neighbours.

python -m experiments.papers.byol_cifar10 [--dry_run] [--only=byol] [--seeds=0]
    [--task=1/6] [--data_dir=...] [--debug]

See jobs.py for what the flags do, and byol_cifar10.sbatch for SLURM.
"""

from experiments import jobs
from experiments.jobs import Cell, Run
from experiments.papers.table import table

GPU = (
    "one RTX A6000, by lightly's 122 minutes for 200 epochs of BYOL; SimSiam has no "
    "target, but is given the same time an epoch"
)
EPOCH_HOURS = 122 / 60 / 200
CAPTION = (
    "CIFAR-10, test accuracy in % of what judges frozen features, mean ± std (seeds); "
    "linear is BYOL's protocol, by SGD:"
)


def judge(name: str, published: str = "") -> Cell:
    """One of the scores of ssl_jax.evaluate.protocol.judge."""
    return Cell(lambda result: result["probe"]["learned"][name]["accuracy"], published)


TABLES = {
    CAPTION: [
        Run(
            name="byol",
            row="BYOL",
            config="byol_cifar10",
            cells={
                "linear": judge(
                    "sgd",
                    "92.58 (solo-learn, 1,000 epochs), 91.73 (arXiv:2007.06346)",
                ),
                "logistic regression": judge("logistic"),
                "5-NN": judge("knn_5", "89.45 (arXiv:2007.06346)"),
                "200-NN": judge("knn_200", "86.9 (lightly, 200 epochs)"),
            },
            hours=1000 * EPOCH_HOURS,
        ),
        Run(
            name="simsiam",
            row="SimSiam",
            config="simsiam_cifar10",
            cells={
                "linear": judge("sgd", "91.8 (arXiv:2011.10566, 800 epochs)"),
                "logistic regression": judge("logistic"),
                "5-NN": judge("knn_5"),
                "200-NN": judge("knn_200"),
            },
            hours=800 * EPOCH_HOURS,
        ),
    ]
}

if __name__ == "__main__":
    jobs.main("byol_cifar10", TABLES, GPU, table)
