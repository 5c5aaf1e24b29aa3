"""The autoencoder tutorial in Keras, timed against configs/autoencoder_mnist.py.

python -m experiments.speed.autoencoder_keras --data_dir=... [--rounds=3] [--keep=cpu]

With --keep, a line of experiments/results/autoencoder_keras.jsonl of that name.

Each side has one process for all its rounds, and the rounds alternate: machines are
shared and noisy. Both train (and compile) autoencoder and classifier and judge them on
the test images; reading the data does not count on either side, nor do our figures and
checkpoints: `whole_run` is with these.
"""

import contextlib
import importlib
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging

from configs import autoencoder_mnist
from experiments import jobs
from ssl_jax import core
from ssl_jax.data import sources
from ssl_jax.train.run import run
from ssl_jax.workdir import results
from ssl_jax.workdir.journal import Journal

DATA_DIR = flags.DEFINE_string("data_dir", "", "as config.data.dir")
ROUNDS = flags.DEFINE_integer("rounds", 3, "of the timing")
KEEP = flags.DEFINE_string("keep", "", "name to keep the result by: the device")


def main(_):
    logging.set_verbosity(logging.WARNING)
    timing = measure(DATA_DIR.value, ROUNDS.value)
    jobs.keep("autoencoder_keras", KEEP.value, timing)


def measure(data_dir: str, rounds: int) -> dict:
    """Alternates the two; round i has seed i on both sides."""
    spawn = multiprocessing.get_context("spawn")
    found = {"keras": [], "ours": []}
    with contextlib.ExitStack() as until_left:
        sides = {
            name: (until_left.enter_context(ProcessPoolExecutor(1, spawn)), side)
            for name, side in (("keras", keras_round), ("ours", our_round))
        }
        for seed in range(rounds):
            for name, (process, side) in sides.items():
                load = os.getloadavg()[0]  # of the last minute, all processes
                done = process.submit(side, data_dir, seed).result()
                found[name].append(done | {"load_average": load})
                print(f"{name}, round {seed}: {found[name][-1]}", flush=True)
    pairs = zip(found["ours"], found["keras"], strict=True)
    ratios = [ours["seconds"] / keras["seconds"] for ours, keras in pairs]
    keras_versions = found["keras"][0]["versions"]
    return {
        "rounds": found,
        "median_ratio": statistics.median(ratios),
        "median_seconds": {
            name: statistics.median(one["seconds"] for one in side)
            for name, side in found.items()
        },
        "device": results.device(core.make_mesh()),
        "cpus": os.cpu_count(),
        "versions": results.versions() | keras_versions,
    }


@cache
def flat_mnist(data_dir: str) -> tuple[np.ndarray, ...]:
    """train_ND, labels_N, test_MD, labels_M: in [0, 1], in the order of the files."""
    dataset = sources.load("mnist", data_dir=data_dir)

    def flat(images):
        return images.reshape(len(images), -1).astype(np.float32) / 255

    return (
        flat(dataset.images_NHWC[:10_000]),
        dataset.labels_N[:1_000],
        flat(dataset.test_images_MHWC),
        dataset.test_labels_M,
    )


def keras_round(data_dir: str, seed: int) -> dict:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Here, because our process does without them.
    keras, tensorflow = map(importlib.import_module, ("keras", "tensorflow"))
    train_ND, labels_N, test_MD, labels_M = flat_mnist(data_dir)
    keras.utils.set_random_seed(seed)
    dense = keras.layers.Dense

    began = time.monotonic()
    inputs = keras.Input((784,))
    code = dense(32, activation="relu")(inputs)
    autoencoder = keras.Model(inputs, dense(784, activation="sigmoid")(code))
    autoencoder.compile("adam", "binary_crossentropy")
    fit = autoencoder.fit(train_ND, train_ND, epochs=50, batch_size=256, verbose=0)
    test_loss = autoencoder.evaluate(test_MD, test_MD, batch_size=512, verbose=0)
    pretrained = time.monotonic()
    classifier = keras.Model(inputs, dense(10, activation="softmax")(code))
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    labeled_ND = train_ND[: len(labels_N)]
    classifier.fit(labeled_ND, labels_N, epochs=20, batch_size=32, verbose=0)
    _, accuracy = classifier.evaluate(test_MD, labels_M, batch_size=512, verbose=0)
    ended = time.monotonic()
    return {
        "seconds": ended - began,
        "pretrain_seconds": pretrained - began,
        "finetune_seconds": ended - pretrained,
        "train_loss": fit.history["loss"][-1],  # mean over the last epoch
        "test_loss": test_loss,
        "accuracy": accuracy,
        "versions": {"keras": keras.__version__, "tensorflow": tensorflow.__version__},
    }


def our_round(data_dir: str, seed: int) -> dict:
    logging.set_verbosity(logging.WARNING)
    jax.clear_caches()  # so that every round compiles
    config = autoencoder_mnist.get_config()
    config.phases = ("pretrain", "finetune")
    config.seed, config.tensorboard, config.data.dir = seed, False, data_dir
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = run(config, Path(folder) / "run")["phases"]
        whole_run = time.monotonic() - began
        with contextlib.closing(Journal(Path(folder) / "run/metrics.jsonl")) as journal:
            rows = journal.rows()
    seconds = {
        name: phase["compile_seconds"] + phase["seconds"]
        for name, phase in done.items()
    }
    losses = [row["train/loss"] for row in rows if row["phase"] == "pretrain"]
    return {
        "seconds": sum(seconds.values()),
        "pretrain_seconds": seconds["pretrain"],
        "finetune_seconds": seconds["finetune"],
        "compile_seconds": sum(phase["compile_seconds"] for phase in done.values()),
        "whole_run": whole_run,
        "train_loss": losses[-1],  # mean over the last 40 steps
        "test_loss": done["pretrain"]["test"]["reconstruction_loss"],
        "accuracy": done["finetune"]["test"]["accuracy"],
    }


if __name__ == "__main__":
    app.run(main)
