"""CIFAR-10 with classes that are rarer: FixMatch and its remedies, as USB has them.

python -m experiments.papers.cifar10_lt [--dry_run] [--only=abc] [--seeds=0]
    [--task=1/126] [--data_dir=...] [--debug]

See jobs.py for what the flags do. Published is USB's table (microsoft/
Semi-supervised-learning, results/classic_cv_imb.csv at 1ef4cbe, 3 seeds): accuracy of
the checkpoint that is best on the test set, which is even, and so are ours. It has no
logit adjustment, and hard labels in ABC's second head. CReST's figures are of its
crest+, which aligns pseudo-labels as `crest` does; the three generations here have as
many steps in all as its six.
"""

from experiments import jobs
from experiments.jobs import Cell, Run
from experiments.papers.table import table

GPU = "one V100 or 2080 Ti, by FixMatch's published steps/s (cifar10_labels.py)"
# (labels of the first class, images of it without, imbalance of each) -> in the table
SETTINGS = {
    (1500, 3000, 100.0, 100.0): "1,500 and 3,000, 100",
    (1500, 3000, 100.0, 0.01): "1,500 and 3,000, 100 and reversed",
    (1500, 3000, 150.0, 150.0): "1,500 and 3,000, 150",
    (500, 4000, 100.0, 100.0): "500 and 4,000, 100",
    (500, 4000, 100.0, 0.01): "500 and 4,000, 100 and reversed",
    (500, 4000, 150.0, 150.0): "500 and 4,000, 150",
}
PUBLISHED = {  # by SETTINGS
    "supervised": "63.83±0.33 63.89±0.25 59.79±0.5 46.63±0.88 47.02±1.09 43.39±1.94",
    "fixmatch": "76.69±0.78 69.95±1.18 73.01±0.57 72.41±1.71 62.1±1.49 65.37±0.97",
    "crest": "78.25±0.36 68.81±0.63 74.59±0.66 76.38±1.37 61.59±1.1 72.0±2.35",
    "darp": "78.49±0.49 69.67±0.65 74.73±0.3 74.67±0.76 63.26±1.33 68.97±0.81",
    "abc": "83.88±0.27 83.78±0.27 81.73±0.25 82.02±0.58 80.13±0.5 77.15±1.26",
    "daso": "76.51±0.49 78.07±0.38 71.97±0.51 68.62±0.67 69.16±1.03 64.4±0.66",
    "logit_adjustment": "",
}
STEPS = {"crest": 6 * 2**16}  # in all; of the others 2^18
CAPTION = (
    "CIFAR-10-LT, accuracy in % of the checkpoint that is best on the even test set, "
    "mean ± std (seeds), by labels of the first class and its images without, and how "
    "many times as many those are as the last class's:"
)


def best(result: dict) -> float:
    return result["test"]["accuracy_best_on_test"]


def run(method: str, setting: tuple, published: str) -> Run:
    labels, unlabeled, *gammas = setting
    overrides = {
        "data.num_labels": 10 * labels,
        "data.num_unlabeled": 10 * unlabeled,
        "data.gamma_labeled": gammas[0],
        "data.gamma_unlabeled": gammas[1],
    }
    steps = STEPS.get(method, 2**18)
    if method == "crest":
        phases = ("generation1", "generation2", "generation3")
        overrides |= {f"{name}.steps": steps // 3 for name in phases}
    reverse = "" if gammas[0] == gammas[1] else "r"
    images = 64 if method == "supervised" else 64 + 2 * 128
    return Run(
        name=f"{method}-{labels}-{gammas[0]:g}{reverse}",
        row=method,
        config=f"cifar10:{method},torchssl,lt",
        cells={SETTINGS[setting]: Cell(best, published)},
        hours=steps / 6.7 / 3600 * images / 960,  # as cifar10_labels counts
        overrides=overrides,
    )


def runs() -> list[Run]:
    listed = []
    for method, row in PUBLISHED.items():
        figures = row.split() or [""] * len(SETTINGS)
        listed += [
            run(method, setting, figure.replace("±", " ± "))
            for setting, figure in zip(SETTINGS, figures, strict=True)
        ]
    return listed


TABLES = {CAPTION: runs()}


if __name__ == "__main__":
    jobs.main("cifar10_lt", TABLES, GPU, table)
