"""What an autoencoder's pretraining is worth with 1,000 labels of MNIST.

python -m experiments.autoencoder_mnist --data_dir=...          # README's table, 10 min
python -m experiments.autoencoder_mnist --data_dir=... --keras  # and Keras's version

Each run is what launch.py would train from configs/autoencoder_mnist.py, in
runs/autoencoder_mnist/<kind>-seed<seed>; what is finished there is not run again. The
result.json files go to <results>, the table to the terminal and, where the results are
the committed ones, to README.md. With --keras nothing of that: it writes
experiments/results/autoencoder_keras_cpu.json.
"""

import json
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from configs import autoencoder_mnist
from experiments import keras_autoencoder, runs
from ssl_jax.report import formats
from ssl_jax.workdir.files import write_json

COMMITTED = Path("experiments/results/autoencoder_mnist")
KERAS = Path("experiments/results/autoencoder_keras_cpu.json")
SEEDS = {"tutorial": 3, "denoising": 5, "scratch": 5}  # kind of run -> seeds
BEST_SCRATCH = 1e-2  # of 1e-3, 3e-3 and 1e-2, chosen on the test images, in its favour

RUN_KERAS = flags.DEFINE_bool("keras", False, "time Keras's version against this one")
ROUNDS = flags.DEFINE_integer("keras_rounds", 3, "of the timing")


def main(_):
    logging.set_verbosity(logging.WARNING)
    if RUN_KERAS.value:
        timing = keras_autoencoder.measure(runs.DATA_DIR.value, ROUNDS.value)
        print(json.dumps(timing, indent=1))
        write_json(KERAS, timing)
        return
    folder = Path(runs.RESULTS.value or COMMITTED)
    folder.mkdir(parents=True, exist_ok=True)
    results = {kind: [] for kind in SEEDS}
    for kind, num_seeds in SEEDS.items():
        for seed in range(num_seeds):
            config = configure(kind, seed)
            name = f"{kind}-seed{seed}"
            result = runs.train(config, Path("runs/autoencoder_mnist") / name)
            if result is None:
                return  # stopped by a signal; the same command goes on
            write_json(folder / f"{name}.json", result)
            results[kind].append(result)
    print(table(results))
    if folder == COMMITTED:
        formats.into_readme("autoencoder", table(results))


def configure(kind: str, seed: int) -> ConfigDict:
    """`kind`: a key of SEEDS. "scratch" is the classifier of "denoising" without
    pretraining, at the learning rate that is best for that."""
    word = "" if kind == "tutorial" else "denoising"
    config = autoencoder_mnist.get_config(word)
    config.seed, config.tensorboard = seed, False
    if kind == "scratch":
        config.phases = ("supervised",)
        config.supervised.optimizer.learning_rate = BEST_SCRATCH
    return config


def committed() -> dict[str, list[dict]]:
    """Kind of run -> its committed results, by seed."""
    return {
        kind: [
            json.loads((COMMITTED / f"{kind}-seed{seed}.json").read_text())
            for seed in range(num_seeds)
        ]
        for kind, num_seeds in SEEDS.items()
    }


def table(results: dict[str, list[dict]]) -> str:
    """Test accuracies in %, mean ± std (seeds). A gain is what pretraining brings over
    the same seed from scratch; in the last row it is the pretraining of "denoising"."""
    loss = {
        kind: formats.mean_std(
            _test(results[kind], "pretrain", "reconstruction_loss"), scale=1_000
        )
        for kind in ("tutorial", "denoising")
    }
    pretrained = {
        kind: _test(results[kind], "finetune", "accuracy")
        for kind in ("tutorial", "denoising")
    }
    scratch = {kind: _test(results[kind], "supervised", "accuracy") for kind in SEEDS}
    rows = []
    for name, kind, against in (
        ("the tutorial", "tutorial", "tutorial"),
        ("`:denoising`", "denoising", "denoising"),
        (f"from scratch at {BEST_SCRATCH:g}", "scratch", "denoising"),
    ):
        pairs = zip(pretrained[against], scratch[kind], strict=True)
        rows.append(
            [
                name,
                loss.get(kind, ""),
                formats.mean_std(pretrained[kind]) if kind in pretrained else "",
                formats.mean_std(scratch[kind]),
                formats.mean_std([with_it - without for with_it, without in pairs]),
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


def gains(results: dict[str, list[dict]], kind: str) -> list[float]:
    """Test accuracy with pretraining less that without, of each seed."""
    pretrained = _test(results[kind], "finetune", "accuracy")
    scratch = _test(results[kind], "supervised", "accuracy")
    return [a - b for a, b in zip(pretrained, scratch, strict=True)]


def _test(results, phase, metric):
    """Of the last evaluation of a phase, for each seed."""
    return [result["phases"][phase]["test"][metric] for result in results]


if __name__ == "__main__":
    app.run(main)
