"""Seconds of a training step: here, and of the same work in PyTorch.

    pip install -e '.[bench]'
    python -m experiments.speed.peers [--works=wrn64,fixmatch] [--peers=ours,tuned]
        [--precision=bfloat16] [--rounds=5] [--keep=cpu]

Each work is a config of this project: its network, batch, optimizer and views. First,
one step from equal weights on equal views has to give an equal loss and equal changes
of all parameters, to 1e-4 of their size. Then the three run in turn, round
after round, so that other load meets all alike:

ours     the compiled call of the config, with its feed: drawing, augmenting, training
workers  Pillow in a DataLoader's workers, channels_last, eager: the public codebases
tuned    images and augmentation on the device, the fused optimizer, channels_last,
         torch.compile where it is quicker (torch_peers/loops.py says what was tried)

The medians are shown, and the ratios of each round. Images are made up, of the work's
size, with the slow changes of photographs: no step takes longer for another image, but
for Pillow's equalize. A work is a line of experiments/results/peers.jsonl, named
<--keep>_<work>, and a row of README's table. `--debug` is small networks and batches.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import torch
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs, readme
from experiments.speed import one_step, works
from experiments.speed.torch_peers import loops
from experiments.speed.works import WORKS, Work
from ssl_jax import core
from ssl_jax.cli import process
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import results

PEERS = ("ours", "workers", "tuned")
PRECISIONS = ("float32", "tf32", "bfloat16")


def define_flags(to: flags.FlagValues) -> None:
    for name, default, said in (
        ("works", ",".join(WORKS), "which to time"),
        ("peers", ",".join(PEERS), "which to time them by"),
    ):
        flags.DEFINE_list(name, default, said, to)
    for name, default, said in (
        ("batch", 0, "images in place of the config's batch_size"),
        ("byol_batch", 64, "BYOL's batch_size; the configs' are for GPUs"),
        ("rounds", 5, "measurements; the median counts"),
        ("steps", 0, "of a measurement; 0: about 3 seconds"),
        ("workers", 0, "of the DataLoader; 0: as many as cores"),
        ("threads", 0, "of PyTorch; 0: as many as cores"),
    ):
        flags.DEFINE_integer(name, default, said, flag_values=to)
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "of the networks", to)
    said = "whether tuned may be compiled"
    flags.DEFINE_enum("compile", "auto", ("auto", "no"), said, to)
    flags.DEFINE_bool("check", True, "first, that one step of both is the same", to)
    flags.DEFINE_bool("debug", False, "small networks and batches, one round", to)
    flags.DEFINE_string("keep", "", "name to keep the results by", to)
    flags.DEFINE_string("results", str(readme.RESULTS), "folder of the results", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    for flag, known in (("works", WORKS), ("peers", PEERS)):
        if unknown := sorted(set(given[flag].value) - {*known}):
            raise UserError(
                f"--{flag} names {', '.join(unknown)}; there are: {', '.join(known)}."
            )
    if given.keep and {*given.peers} != {*PEERS}:
        raise UserError(
            f"--keep={given.keep} is for a row of a table, which has all peers: leave "
            f"out --peers={','.join(given.peers)}."
        )
    process.set_up(*(_configured(name, given) for name in given.works))
    for name in given.works:
        measured = measure(name, given)
        kept = f"{given.keep}_{name}" if given.keep else ""
        # Debug results lie beside the real ones, never among them.
        experiment = "peers_debug" if given.debug else "peers"
        jobs.keep(experiment, kept, measured, Path(given.results))


def measure(name: str, given: flags.FlagValues) -> dict:
    """Seconds a step of one work by each peer, in turn.

    Raises:
      UserError: one step is not the same; or there is a GPU for one library alone.
    """
    load_before = os.getloadavg()
    work, config = WORKS[name], _configured(name, given)
    dataset = works.made_up(work.shape, 512 if given.debug else 4096)
    mesh, on = core.make_mesh(), _device()
    loops.prepare(given.threads, tf32=given.precision == "tf32")
    apart = None
    if given.check:
        step = one_step.here(work, config, dataset, mesh)
        apart = one_step.compared(step, works.settings_of(work, step.config), on)
    if on.type == "cuda":
        precision = "tensorfloat32" if given.precision == "tf32" else "float32"
        jax.config.update("jax_default_matmul_precision", precision)
    bfloat16 = given.precision == "bfloat16"
    config.model.dtype = "bfloat16" if bfloat16 else "float32"
    arrays = dataset.images_NHWC, dataset.labels_N
    settings = works.settings_of(work, config)
    made, compiled = {}, None
    if "ours" in given.peers:
        made["ours"] = Ours(work, config, dataset, mesh)
    if "workers" in given.peers:
        count = given.workers or os.cpu_count()
        made["workers"] = loops.Workers(
            settings, *arrays, on, workers=count, bfloat16=bfloat16
        )
    if "tuned" in given.peers:
        made["tuned"], compiled = tuned(
            given, given.precision == "tf32", settings, *arrays, on, bfloat16=bfloat16
        )
    seconds, steps = alternated(made, given.steps, 1 if given.debug else given.rounds)
    ratios = {
        peer: [a / b for a, b in zip(seconds["ours"], theirs, strict=True)]
        for peer, theirs in seconds.items()
        if "ours" in seconds and peer != "ours"
    }
    return {
        "work": name,
        "config": config.to_dict(),
        "views": settings.views_per_step,
        "precision": given.precision,
        "median_seconds": {n: statistics.median(s) for n, s in seconds.items()},
        "median_ratio": {n: statistics.median(r) for n, r in ratios.items()},
        "seconds": seconds,
        "ratios": ratios,
        "steps": steps,
        "one_step": apart,
        "compiled": compiled,
        "workers": given.workers or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "debug": given.debug,
        "device": results.device(mesh),
        "torch_device": torch.cuda.get_device_name() if on.type == "cuda" else "cpu",
        "cpus": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "versions": {**results.versions(), "torch": torch.__version__},
        "git": results.git_state(),
    }


class Ours:
    """The compiled call of a config's phase."""

    def __init__(self, work: Work, config: ConfigDict, dataset: Dataset, mesh):
        self.phase = works.prepared(work, config, dataset, mesh)
        with jax.set_mesh(mesh):
            self.state, self.sums, self.call, _ = compile_phase(self.phase)
        self.steps = 0

    def run(self, steps: int) -> float:
        """Seconds a step."""
        feed, first = self.phase.feed, self.steps
        self.steps += steps
        began = time.perf_counter()
        for item in feed.items(first, self.steps):
            self.state, self.sums = self.call(self.state, self.sums, feed.arrays, item)
        jax.block_until_ready(self.state)
        return (time.perf_counter() - began) / steps


def tuned(
    given: flags.FlagValues, tf32: bool, *args, **kwargs
) -> tuple[loops.Tuned, dict]:
    """(the loop, its form and what the choice was by): of `loops.forms` the quickest
    that can be had and has the eager one's loss; with --compile=no, the eager one."""
    tried, expected = {}, None
    for form in loops.forms(args[-1]) if given.compile == "auto" else ():
        how = (form, given.threads, tf32, *args)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            try:
                seconds, loss = pool.submit(loops.trial, *how, **kwargs).result()
            except Exception as error:  # of any kind: a compiler is missing, say
                tried[form] = f"failed: {type(error).__name__}: {error}"[:300]
                continue
        expected = loss if expected is None else expected
        # Within chance: the compiled views draw other numbers.
        near = abs(loss - expected) <= 0.1 * abs(expected)
        tried[form] = seconds if near else f"failed: loss {loss}, and not {expected}"
    timed = {form: s for form, s in tried.items() if isinstance(s, float)}
    chosen = min(timed, key=timed.get, default="eager")
    loop = loops.Tuned(*args, form=chosen, **kwargs)
    return loop, {"chosen": chosen, "tried": tried}


def alternated(
    made: Mapping[str, object], steps: int, rounds: int
) -> tuple[dict[str, list[float]], int]:
    """Seconds a step by peer and round; and the steps of each measurement."""
    warm = {name: [each.run(1) for _ in range(2)][-1] for name, each in made.items()}
    steps = steps or max(1, round(3 / statistics.median(warm.values())))
    seconds = {name: [] for name in made}
    for _ in range(rounds):
        for name, each in made.items():
            seconds[name].append(each.run(steps))
    return seconds, steps


def _configured(name, given):
    sizes = {size: given[size].value for size in ("batch", "byol_batch", "debug")}
    return works.configured(name, **sizes)


def _device() -> torch.device:
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu != torch.cuda.is_available():
        raise UserError(
            f"JAX has the devices {jax.devices()}, but torch.cuda.is_available() is "
            f"{not on_gpu}: install both libraries for a GPU, or hide it from both by "
            "JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES=-1."
        )
    return torch.device("cuda" if on_gpu else "cpu")


if __name__ == "__main__":
    # Both libraries share a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    command.start("peers", run, define_flags)
