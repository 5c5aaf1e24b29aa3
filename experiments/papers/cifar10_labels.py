"""CIFAR-10 with 40, 250 and 4,000 labels: FixMatch's table, and the methods after it.

python -m experiments.papers.cifar10_labels [--dry_run] [--only=fixmatch] [--seeds=0]
    [--task=1/189] [--data_dir=...] [--debug]

See jobs.py for what the flags do, and cifar10_labels.sbatch for SLURM. What it
prints for each number of labels is what this prints for all of them:

python -m ssl_jax.report experiments/results/cifar10_labels.jsonl
    --published=experiments/papers/published.json

Hours are estimates. Published rates of FixMatch lie between 3 and 15 steps/s on one GPU
(V100, 2080 Ti): 2^20 steps in 20 hours to 4 days. Counted is their geometric mean, 6.7,
and for methods whose steps have fewer images, in proportion to these.
"""

from collections.abc import Sequence
from pathlib import Path

from configs import cifar10
from experiments import jobs
from experiments.jobs import Run
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

GPU = "one V100 or 2080 Ti, by FixMatch's published 3 to 15 steps/s (6.7 counted)"
PUBLISHED = Path(__file__).parent / "published.json"
LABELS = (40, 250, 4000)
FIXMATCH = 64 + 2 * 448  # images a step: labeled, weak and strong views
METHODS = {  # as the report calls it -> config, images a step
    "supervised": ("cifar10:supervised", 64),
    "pseudo_label": ("cifar10:pseudo_label", 64 + 64),
    "pi_model": ("cifar10:pi_model", 64 + 2 * 64),
    "mean_teacher": ("cifar10:mean_teacher", 64 + 2 * 64),
    "vat": ("cifar10:vat", 64 + 3 * 64),  # as it is, for the slope, and changed
    "mixmatch": ("cifar10:mixmatch", 64 + 2 * 2 * 64),  # guessing, then training
    # A weak view guesses; labeled, weak and strong ones are mixed; a strong and a
    # rotated one are not.
    "remixmatch_cta": ("cifar10:remixmatch,cta", 64 * (1 + 3 + 2)),
    "uda": ("cifar10:uda", FIXMATCH),
    "fixmatch": ("cifar10:fixmatch", FIXMATCH),
    "fixmatch_cta": ("cifar10:fixmatch,cta", FIXMATCH + 64),  # and the probe
    "flexmatch": ("cifar10:flexmatch", FIXMATCH),
    "freematch": ("cifar10:freematch", FIXMATCH),
    "softmatch": ("cifar10:softmatch", FIXMATCH),
    "adamatch": ("cifar10:adamatch", FIXMATCH),
    "dash": ("cifar10:dash", FIXMATCH),
    "comatch": ("cifar10:comatch", 64 + 3 * 448),
    "simmatch": ("cifar10:simmatch", FIXMATCH),
    "crmatch": ("cifar10:crmatch", 64 + 3 * 448),  # and a rotated view
    "sequencematch": ("cifar10:sequencematch", 64 + 3 * 448),
    # A teacher as FixMatch; its student, which sees labeled images twice, forwards.
    "meta_pseudo_labels": (
        "cifar10:meta_pseudo_labels",
        FIXMATCH + 448 + 2 / 3 * 64,
    ),
    "noisy_student": ("cifar10:noisy_student", 512 * 3 / 8),  # in 3/8 of the steps
}


def run(method: str, num_labels: int) -> Run:
    config, images = METHODS[method]
    overrides = {"data.num_labels": num_labels}
    if method == "remixmatch_cta" and num_labels > 40:
        overrides |= cifar10.MORE_LABELS
        images += 64 * (8 - 1)
    return Run(
        name=f"{method}-{num_labels}",
        row=method,
        config=config,
        cells={},
        hours=2**20 / 6.7 / 3600 * images / FIXMATCH,
        overrides=overrides,
    )


TABLES = {
    f"CIFAR-10, {num_labels:,} labels.": [run(method, num_labels) for method in METHODS]
    for num_labels in LABELS
}


def form(runs: Sequence[Run], results: Table) -> str:
    """What the report says of these runs."""
    found = [result for run in runs for result in results[run.name]]
    published = tables.read_published(PUBLISHED)
    return formats.markdown(tables.compare(found, published=published)) or "No results."


if __name__ == "__main__":
    jobs.main("cifar10_labels", TABLES, GPU, form)
