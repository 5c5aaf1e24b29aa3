"""USB's table of images: a ViT that goes on from weights, and 204,800 steps.

python -m experiments.papers.usb_cv [--dry_run] [--only=fixmatch] [--seeds=0]
    [--task=1/204] [--data_dir=...] [--debug]

See jobs.py for what the flags do. Settings are microsoft/Semi-supervised-learning's at
1ef4cbe, config/usb_cv, which `cifar100:usb` and `stl10:usb` have; the published errors
lie in usb_cv.csv, its results/: of the best checkpoint on the test set, 3 seeds. The
two files of weights are its release v.0.0.0's, in a folder `weights`:
vit_small_patch2_32_mlp_im_1k_32.pth, and mae_pretrain_vit_base.pth.

Of its columns EuroSAT is left out, which TensorFlow Datasets has without a split to
test on, and TissueMNIST and Semi-Aves, which it does not have; of its rows
fullysupervised and defixmatch.

Hours are of multiplications: FixMatch's WRN-28-2 was measured on one H100 at 124
steps/s (results/race.jsonl, between two evaluations), 0.85 TFLOP each. Steps of 24
images will not come up to that.
"""

import csv
from pathlib import Path

from experiments import jobs
from experiments.jobs import Cell, Run
from experiments.papers.table import table

GPU = "one H100, by FixMatch's WRN-28-2 there and the multiplications: at least so many"
PUBLISHED = Path(__file__).parent / "usb_cv.csv"
STEPS, RATE = 204_800, 124 * 0.85e12  # FLOP/s
# Data set -> config, file, labels, FLOP of an image forwards (2 a multiplication): of
# 257 tokens in a ViT-S, and 37 in a ViT-B.
DATA = {
    "CIFAR-100": (
        "cifar100:usb",
        "weights/vit_small_patch2_32_mlp_im_1k_32.pth",
        (200, 400),
        12.3e9,
    ),
    "STL-10": ("stl10:usb", "weights/mae_pretrain_vit_base.pth", (40, 100), 6.4e9),
}
THREE = 8 + 2 * 8  # images a step: labeled, weak and strong
METHODS = {  # as published -> word, images a step
    "supervised": ("supervised", 8),
    "pseudolabel": ("pseudo_label", 8 + 8),
    "meanteacher": ("mean_teacher", THREE),
    "pimodel": ("pi_model", THREE),
    "vat": ("vat", 8 + 3 * 8),
    "mixmatch": ("mixmatch", 8 + 2 * 2 * 8),
    "remixmatch": ("remixmatch", 8 * (1 + 4 + 2)),
    "adamatch": ("adamatch", THREE),
    "uda": ("uda", THREE),
    "fixmatch": ("fixmatch", THREE),
    "flexmatch": ("flexmatch", THREE),
    "dash": ("dash", THREE),
    "crmatch": ("crmatch", 8 + 3 * 8),  # and a rotated view
    "comatch": ("comatch", 8 + 3 * 8),
    "simmatch": ("simmatch", THREE),
    "freematch": ("freematch", THREE),
    "softmatch": ("softmatch", THREE),
}


def error(result: dict) -> float:
    """As USB reports it."""
    return 1 - result["test"]["accuracy_best_on_test"]


def run(data: str, method: str, num_labels: int, published: dict) -> Run:
    config, weights, _, forwards = DATA[data]
    word, images = METHODS[method]
    column = f"{data.replace('-', '').lower()}_{num_labels}"
    its = published[method][column].replace("±", " ± ").replace("None", "")
    return Run(
        name=f"{method}-{column}",
        row=method,
        config=f"{config},{word}",
        cells={f"{num_labels} labels": Cell(error, its)},
        hours=STEPS * images * 3 * forwards / RATE / 3600,
        overrides={"data.num_labels": num_labels, "model.weights": weights},
    )


def read_published() -> dict[str, dict[str, str]]:
    """Method -> column of the file -> "29.6±0.9"."""
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return {row.pop(""): row for row in csv.DictReader(file)}


def tables() -> dict[str, list[Run]]:
    published = read_published()
    return {
        f"{data}, test error in % of the best checkpoint on the test set, mean ± std "
        "(seeds):": [
            run(data, method, num_labels, published)
            for method in METHODS
            for num_labels in DATA[data][2]
        ]
        for data in DATA
    }


TABLES = tables()

if __name__ == "__main__":
    jobs.main("usb_cv", TABLES, GPU, table)
