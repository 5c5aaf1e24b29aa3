"""Seconds of a training step: here, and of the same work in PyTorch.

    pip install -e '.[bench]'
    python -m experiments.speed.peers [--works=wrn64,fixmatch] [--peers=ours,tuned]
        [--precision=bfloat16] [--rounds=5] [--keep=cpu]

Each work is a config of this project: its network, batch, optimizer and views. First,
one step from equal weights on equal views has to give an equal loss and equal changes
of all parameters, to 1e-4 of their size: a step of 8 images and the unlabeled ones
that go with so many, as in float64 the whole batch may not fit in memory. Then the
three run in turn, round after round, so that other load meets all alike:

ours     the compiled call of the config, with its feed: drawing, augmenting, training
workers  Pillow in a DataLoader's workers, channels_last, eager: the public codebases
tuned    images and augmentation on the device, the fused optimizer, channels_last,
         torch.compile where it is quicker (torch_peers/loops.py says what was tried)

Each of them, and the first step's comparison, is a process of its own, which stands
still while it is another's turn: in one process with PyTorch, our step of 64 images of
WRN-28-2 took 665 to 742 ms on two cores, where it takes 541 alone.

The medians are shown, and the ratios of each round. Images are made up, of the work's
size, with the slow changes of photographs: no step takes longer for another image, but
for Pillow's equalize. FixMatch of 960 images took 7 to 15 GB of ours alone: where not
all fit, --peers=ours,tuned, one work at a time. A work is a line of
experiments/results/peers.jsonl, named <--keep>_<work>, and a row of README's table.
`--debug` is small networks and batches.
"""

import contextlib
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs, readme
from experiments.speed import alone, one_step, works
from experiments.speed.alone import Alone
from experiments.speed.ours import Ours
from experiments.speed.torch_peers import loops
from experiments.speed.works import WORKS, Work
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.workdir import results

PEERS = ("ours", "workers", "tuned")
# Steps before the rounds: a training has a million, and in its first ones memory that a
# step of 960 images takes still comes from the system page by page, for half the time.
WARM = 8
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
    if given.keep and not {"ours", "tuned"} <= {*given.peers}:
        raise UserError(
            f"--keep={given.keep} is for a row of a table, which has ours and tuned at "
            f"least: leave out --peers={','.join(given.peers)}."
        )
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
    # Asked without the use of a GPU's memory, which is for others.
    on = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    apart = None
    if given.check:
        apart = alone.once(one_step.check, work, config, dataset, on, given.threads)
    config.model.dtype = "bfloat16" if given.precision == "bfloat16" else "float32"
    with started(given, work, config, dataset, on) as (made, compiled):
        rounds = 1 if given.debug else given.rounds
        seconds, steps = alternated(made, given.steps, rounds)
        devices = {name: each.device for name, each in made.items()}
    ratios = {
        peer: [a / b for a, b in zip(seconds["ours"], theirs, strict=True)]
        for peer, theirs in seconds.items()
        if "ours" in seconds and peer != "ours"
    }
    return {
        "work": name,
        "config": config.to_dict(),
        "views": works.settings_of(work, config).views_per_step,
        "precision": given.precision,
        "median_seconds": {n: statistics.median(s) for n, s in seconds.items()},
        "median_ratio": {n: statistics.median(r) for n, r in ratios.items()},
        "seconds": seconds,
        "ratios": ratios,
        "steps": steps,
        "one_step": apart,
        "one_step_batch": apart and min(one_step.BATCH, config[work.phase].batch_size),
        "compiled": compiled,
        "workers": given.workers or os.cpu_count(),
        "threads": given.threads or os.cpu_count(),
        "debug": given.debug,
        "device": devices.pop("ours", None),
        "torch_device": next(iter(devices.values()), None),
        "cpus": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "versions": {**results.versions(), "torch": torch.__version__},
        "git": results.git_state(),
    }


@contextlib.contextmanager
def started(
    given: flags.FlagValues,
    work: Work,
    config: ConfigDict,
    dataset: Dataset,
    on: torch.device,
) -> Iterator[tuple[dict[str, Alone], dict | None]]:
    """(the peers that are asked for, each in its process, what `quickest` tells)."""
    tf32, bfloat16 = given.precision == "tf32", given.precision == "bfloat16"
    images = dataset.images_NHWC, dataset.labels_N
    theirs = given.threads, tf32, works.settings_of(work, config), *images, on
    made, compiled = {}, None
    with contextlib.ExitStack() as alive:
        if "ours" in given.peers:
            on_gpu = on.type == "cuda"
            one = Alone(Ours, work, config, dataset, tf32=tf32, on_gpu=on_gpu)
            made["ours"] = alive.enter_context(one)
        if "workers" in given.peers:
            how = {"workers": given.workers or os.cpu_count(), "bfloat16": bfloat16}
            one = Alone(loops.prepared, loops.Workers, *theirs, **how)
            made["workers"] = alive.enter_context(one)
        if "tuned" in given.peers:
            forms = loops.forms(on) if given.compile == "auto" else []
            if on.type == "cuda":  # which takes a minute and a half each
                compiled_at_once(forms, *theirs, bfloat16=bfloat16)
            compiled = quickest(forms, *theirs, bfloat16=bfloat16)
            how = {"form": compiled["chosen"], "bfloat16": bfloat16}
            one = Alone(loops.prepared, loops.Tuned, *theirs, **how)
            made["tuned"] = alive.enter_context(one)
        yield made, compiled


def compiled_at_once(forms: Sequence[str], *args, **kwargs) -> None:
    """Has torch.compile's programs of the forms of a Tuned loop made and kept on the
    disk, side by side; what fails will do so again."""

    def attempt(form):
        with contextlib.suppress(RuntimeError):
            alone.once(loops.trial, form, *args, **kwargs)

    with ThreadPoolExecutor(max(len(forms), 1)) as pool:
        list(pool.map(attempt, forms))


def quickest(forms: Sequence[str], *args, **kwargs) -> dict:
    """Of the forms of a Tuned loop the quickest that can be had and has the first one's
    loss ("chosen"), and seconds of all ("tried"); of none, the eager one."""
    tried, expected = {}, None
    for form in forms:
        try:
            seconds, loss = alone.once(loops.trial, form, *args, **kwargs)
        except RuntimeError as error:  # of any kind: a compiler is missing, say
            tried[form] = f"failed: {error}"[:300]
            continue
        expected = loss if expected is None else expected
        # Within chance: the compiled views draw other numbers.
        near = abs(loss - expected) <= 0.1 * abs(expected)
        tried[form] = seconds if near else f"failed: loss {loss}, and not {expected}"
    timed = {form: s for form, s in tried.items() if isinstance(s, float)}
    return {"chosen": min(timed, key=timed.get, default="eager"), "tried": tried}


def alternated(
    made: Mapping[str, object], steps: int, rounds: int
) -> tuple[dict[str, list[float]], int]:
    """Seconds a step by peer and round; and the steps of each measurement."""
    warm = {name: [each.run(1) for _ in range(WARM)][-1] for name, each in made.items()}
    steps = steps or max(1, round(3 / statistics.median(warm.values())))
    seconds = {name: [] for name in made}
    for _ in range(rounds):
        for name, each in made.items():
            seconds[name].append(each.run(steps))
    return seconds, steps


def _configured(name, given):
    sizes = {size: given[size].value for size in ("batch", "byol_batch", "debug")}
    return works.configured(name, **sizes)


if __name__ == "__main__":
    command.start("peers", run, define_flags)
