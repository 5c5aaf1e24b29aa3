"""What an autoencoder's pretraining is worth with 1,000 labels of MNIST.

python -m experiments.tables.autoencoder_mnist --data_dir=...  # the table, 10 min

The runs are configs/autoencoder_mnist.py, "tutorial", its "denoising", and this one's
classifier alone, "scratch"; see jobs.py. speed/autoencoder_keras.py times the tutorial
against Keras.
"""

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

SEEDS = {"tutorial": 3, "denoising": 5, "scratch": 5}  # run -> seeds
BEST_SCRATCH = 1e-2  # of 1e-3, 3e-3 and 1e-2, chosen on the test images, in its favour


def define_flags(to: flags.FlagValues) -> None:
    command.define_flags(to, seeds="")


def main(given: flags.FlagValues) -> None:
    chosen = ((k, configure(k, seed)) for k, n in SEEDS.items() for seed in range(n))
    results = jobs.collect("autoencoder_mnist", given, chosen)
    if results is not None:
        jobs.show(given, table(results))


def configure(kind: str, seed: int) -> ConfigDict:
    """`kind`: a key of SEEDS. "scratch" is the classifier of "denoising" without
    pretraining, at the learning rate that is best for that."""
    word = "" if kind == "tutorial" else ":denoising"
    values = {"seed": seed, "tensorboard": False}
    if kind == "scratch":
        values["phases"] = ("supervised",)
        values["supervised.optimizer.learning_rate"] = BEST_SCRATCH
    return jobs.load(f"autoencoder_mnist{word}", values)


def table(results: Table) -> str:
    """Test accuracies in %, mean ± std (seeds). A gain is what pretraining brings over
    the same seed from scratch; in the last row it is the pretraining of "denoising"."""
    rows = []
    for name, kind, against in (
        ("the tutorial", "tutorial", "tutorial"),
        ("`:denoising`", "denoising", "denoising"),
        (f"from scratch at {BEST_SCRATCH:g}", "denoising", "scratch"),
    ):
        found, own = results[kind], kind == against
        loss, pretrained = (
            _test(found, *of).values()
            for of in (("pretrain", "reconstruction_loss"), ("finetune", "accuracy"))
        )
        scratch = _test(results[against], "supervised", "accuracy").values()
        above = gains(results, kind, against)
        rows.append(
            [
                name,
                formats.mean_std(loss, scale=1_000) if own else "",
                formats.mean_std(pretrained) if own else "",
                formats.mean_std(scratch),
                formats.mean_std(above) if above else "",
            ]
        )
    header = ["", "loss, 0.001 nats", "pretrained", "from scratch", "gain, points"]
    caption = (
        "Reconstruction loss of the test images, and test accuracy in % of the "
        "classifier with and without pretraining, mean ± std (seeds). The last row's "
        "gain is that of `:denoising` over its classifier from scratch at the learning "
        f"rate that is best for it, {BEST_SCRATCH:g}:"
    )
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def gains(results: Table, kind: str, against: str) -> list[float]:
    """Test accuracy with the pretraining of `kind`, less that from scratch of
    `against`, of each seed that both have."""
    with_it = _test(results[kind], "finetune", "accuracy")
    without = _test(results[against], "supervised", "accuracy")
    gains, _ = tables.paired_by_seed({kind: (with_it, without)}).get(kind, ([], None))
    return gains


def _test(found, phase, metric):
    """{seed: of the last evaluation of a phase}."""
    return {result["seed"]: result["phases"][phase]["test"][metric] for result in found}


if __name__ == "__main__":
    command.start("autoencoder_mnist", main, define_flags)
