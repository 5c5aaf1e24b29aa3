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

import dataclasses
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import flags
from ml_collections import ConfigDict

from configs import base
from experiments import command, jobs
from experiments.speed import pillow_views
from experiments.speed.torch_peers import loops, weights
from experiments.speed.torch_peers.algorithms import Settings
from ssl_jax import core, models
from ssl_jax.cli import process
from ssl_jax.data import loading
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.train import phases
from ssl_jax.train.program import at, compile_phase, first_item
from ssl_jax.train.sections import parse
from ssl_jax.workdir import results

TOLERANCE = 1e-4  # of a step's loss, and of the size of its change of the parameters
CLASSES = 10
_SMALL = {  # networks of --debug
    "wide_resnet": dict(widen=1, blocks=1),
    "mobilenet": dict(widen=0.125),
    "resnet": dict(width=8),
    "convnet": dict(filters=(8, 8)),
}
_NO_VIEWS = {f"train.augment.{view}": "none" for view in ("weak", "strong")}


@dataclass(frozen=True)
class Work:
    """What is timed: a config's phase on images of a shape."""

    config: str  # "<file>:<words>"
    shape: tuple[int, int, int]  # height, width, channels
    says: Mapping[str, object] = field(default_factory=dict)  # dotted field -> value
    model: str = ""  # another than the config's
    phase: str = "train"


WORKS = {
    "wrn64": Work("cifar10:supervised", (32, 32, 3)),
    "fixmatch": Work("cifar10", (32, 32, 3)),
    "fixmatch_nograd": Work(
        "cifar10", (32, 32, 3), {"train.algorithm.weak_gradient": False}
    ),
    "mobilenet": Work("cifar10:supervised", (32, 32, 3), model="mobilenet"),
    "byol32": Work("byol_cifar10", (32, 32, 3), phase="pretrain"),
    "byol96": Work("byol_stl10:paper96", (96, 96, 3), phase="pretrain"),
    "convnet_mnist": Work("mnist", (28, 28, 1)),
    "convnet_mnist_network": Work("mnist", (28, 28, 1), _NO_VIEWS),
    "digits": Work("digits", (8, 8, 1)),
}
PEERS = ("ours", "workers", "tuned")
PRECISIONS = ("float32", "tf32", "bfloat16")
COMPILE = ("auto", "yes", "no")


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
    for name, known, said in (
        ("precision", PRECISIONS, "what networks compute in"),
        ("compile", COMPILE, "whether tuned is compiled"),
    ):
        flags.DEFINE_enum(name, known[0], known, said, to)
    flags.DEFINE_bool("check", True, "first, that one step of both is the same", to)
    flags.DEFINE_bool("debug", False, "small networks and batches, one round", to)
    flags.DEFINE_string("keep", "", "name to keep the results by", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    for flag, known in (("works", WORKS), ("peers", PEERS)):
        if unknown := sorted(set(given[flag].value) - {*known}):
            raise UserError(
                f"--{flag} names {', '.join(unknown)}; there are: {', '.join(known)}."
            )
    process.set_up(configured(given.works[0], given))
    for name in given.works:
        measured = measure(name, given)
        jobs.keep("peers", f"{given.keep}_{name}" if given.keep else "", measured)


def measure(name: str, given: flags.FlagValues) -> dict:
    """Seconds a step of one work by each peer, in turn.

    Raises:
      UserError: one step is not the same; or there is a GPU for one library alone.
    """
    load_before = os.getloadavg()
    work, config = WORKS[name], configured(name, given)
    dataset, mesh = _images(work.shape, 512 if given.debug else 4096), core.make_mesh()
    on = _device()
    loops.prepare(given.threads, tf32=given.precision == "tf32")
    equal = check(work, config, dataset, mesh, on) if given.check else None
    if on.type == "cuda":
        precision = "tensorfloat32" if given.precision == "tf32" else "float32"
        jax.config.update("jax_default_matmul_precision", precision)
    bfloat16 = given.precision == "bfloat16"
    config.model.dtype = "bfloat16" if bfloat16 else "float32"
    arrays = dataset.images_NHWC, dataset.labels_N
    settings = settings_of(work, config)
    made, compiled = {}, None
    if "ours" in given.peers:
        made["ours"] = Ours(work, config, dataset, mesh)
    if "workers" in given.peers:
        made["workers"] = loops.Workers(
            settings, *arrays, on, workers=given.workers or os.cpu_count(),
            bfloat16=bfloat16,
        )  # fmt: skip
    if "tuned" in given.peers:
        made["tuned"], compiled = tuned(
            given.compile, settings, *arrays, on, bfloat16=bfloat16
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
        "images_per_step": settings.images_per_step,
        "precision": given.precision,
        "median_seconds": {n: statistics.median(s) for n, s in seconds.items()},
        "median_ratio": {n: statistics.median(r) for n, r in ratios.items()},
        "seconds": seconds,
        "ratios": ratios,
        "steps": steps,
        "one_step": equal,
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


def configured(name: str, given: flags.FlagValues) -> ConfigDict:
    """The work's config, float32 and without a warm-up: its first rate is 0."""
    work = WORKS[name]
    config = jobs.load(work.config, work.says)
    config.unlock()
    config.phases, config.tensorboard = (work.phase,), False
    if work.model:
        base.refill(config, "model", work.model)
    phase = config[work.phase]
    phase.optimizer.warmup_steps = 0
    if phase.algorithm.name == "byol.BYOL":
        phase.batch_size = given.byol_batch
    phase.batch_size = given.batch or phase.batch_size
    if given.debug:
        config.model.update(_SMALL[config.model.name])
        phase.batch_size = 8
        phase.unlabeled_ratio = min(phase.unlabeled_ratio, 2)
        if phase.algorithm.name == "byol.BYOL":
            phase.algorithm.update(hidden=16, projection=16)
    return config


def settings_of(work: Work, config: ConfigDict) -> Settings:
    """What PyTorch's side is told of the config."""
    phase = config[work.phase]
    parts = ("algorithm", "optimizer", "augment")
    sizes = ("steps", "batch_size", "unlabeled_ratio")
    return Settings(
        model=config.model.to_dict(),
        **{part: phase[part].to_dict() for part in parts},
        **{size: phase[size] for size in sizes},
        channels=work.shape[-1],
        num_classes=CLASSES,
    )


class Ours:
    """The compiled call of a config's phase."""

    def __init__(self, work: Work, config: ConfigDict, dataset: Dataset, mesh):
        self.phase = _prepared(work, config, dataset, mesh)
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


def tuned(compile: str, *args, **kwargs) -> tuple[loops.Tuned, dict]:
    """(the loop, what its choice was by). Compiled and not are both tried, where
    `compile` is "auto", and the quicker is taken."""
    forms = {"auto": (False, True), "yes": (True,), "no": (False,)}[compile]
    tried, made = {}, {}
    for compiled in forms:
        name = "compiled" if compiled else "eager"
        made[name] = loops.Tuned(*args, compiled=compiled, **kwargs)
        try:
            tried[name] = min(made[name].run(1) for _ in range(3))
        except Exception as error:  # of any kind: a compiler is missing, say
            if not compiled or compile == "yes":
                raise
            tried[name] = f"failed: {type(error).__name__}: {error}"[:300]
    timed = {name: s for name, s in tried.items() if isinstance(s, float)}
    chosen = min(timed, key=timed.get)
    return made[chosen], {"chosen": chosen, "tried": tried}


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


def check(work: Work, config: ConfigDict, dataset: Dataset, mesh, on) -> dict:
    """How far one step here and one of PyTorch's are apart: of the loss, as a part of
    it; of the parameters and of their average, as parts of the change of the former.

    The views are given, every pseudo-label is taken, and the networks are in float64:
    in float32 an activation near 0 has now and then the other sign, which alone moves
    some gradients by 1e-3 of their size.

    Raises:
      UserError: further than TOLERANCE.
    """
    config = ConfigDict(config.to_dict())
    if "threshold" in config[work.phase].algorithm:
        config[work.phase].algorithm.threshold = 0.0
    phase = _prepared(work, config, dataset, mesh)
    hparams = config.model.to_dict() | {"dtype": "float64"}
    algorithm = dataclasses.replace(
        phase.algorithm,
        views=_given(phase.algorithm.views),
        model=models.build(hparams.pop("name"), num_classes=CLASSES, **hparams),
    )
    feed, key = phase.feed, phase.key
    with jax.enable_x64(True), jax.set_mesh(mesh):
        batch = jax.jit(feed.batch)(feed.arrays, at(first_item(phase), 0))
        state = jax.jit(algorithm.init)(key, batch)
        state = jax.tree.map(_in_float64, state)
        before = jax.device_get(state.params)
        views = jax.device_get(_views(algorithm.views, batch))
        state, metrics = jax.jit(algorithm.train_step)(state, batch, key)
        ours = float(metrics["loss"].compute())
    loss, training = loops.one_step(
        settings_of(work, config), before, views, np.asarray(batch["label"]), on
    )
    average = state.extra.get("target", state.extra.get("ema"))
    after = jax.device_get({"network": state.params, "average": average})
    before = weights.flat(before)
    changed = size(before, weights.flat(after["network"]))
    apart = {"loss": abs(loss - ours) / abs(ours)}
    for part in after:
        theirs = weights.dump(getattr(training, part))
        apart[part] = size(weights.flat(after[part]), theirs) / changed
    if not max(apart.values()) <= TOLERANCE:  # nor where it is NaN
        said = ", ".join(f"{part} by {value:.1e}" for part, value in apart.items())
        raise UserError(
            f"{config.name}: a step of PyTorch's is not ours: they differ in {said}, "
            f"and may by {TOLERANCE:.0e}."
        )
    return apart


def size(a: dict, b: dict) -> float:
    """|a - b| over all parameters of `a`."""
    return float(np.sqrt(sum(((a[name] - b[name]) ** 2).sum() for name in a)))


def _in_float64(leaf):
    is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if is_float else leaf


def _prepared(work, config, dataset, mesh):
    run = parse(config, mesh.size)
    data = loading.load(run.data, mesh, seed=run.seed, dataset=dataset)
    return phases.prepared(config, work.phase, mesh, data)[0]


def _images(shape: tuple[int, int, int], rows: int) -> Dataset:
    images_NHWC = pillow_views.smooth_noise(rows, *shape)
    labels_N = np.arange(rows, dtype=np.int32) % CLASSES
    names = tuple(map(str, range(CLASSES)))
    nothing = images_NHWC[:0], labels_N[:0]
    return Dataset("made up", images_NHWC, labels_N, *nothing, class_names=names)


def _device() -> torch.device:
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu != torch.cuda.is_available():
        raise UserError(
            f"JAX has the devices {jax.devices()}, but torch.cuda.is_available() is "
            f"{not on_gpu}: install both libraries for a GPU, or hide it from both by "
            "JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES=-1."
        )
    return torch.device("cuda" if on_gpu else "cpu")


def _given(views):
    """Views without chance: the image as it is, or its negative upside down."""

    def first(key, images_BHWC, *_):
        return views.plain(images_BHWC)

    def second(key, images_BHWC, *_):
        return views.plain(255 - images_BHWC[:, ::-1])

    if hasattr(views, "weak"):
        return views._replace(weak=first, strong=second)
    return views._replace(first=first, second=second)


def _views(views, batch) -> list[jax.Array]:
    """Of a batch, in the order of `torch_peers.algorithms`."""
    if not hasattr(views, "weak"):
        return [views.first(None, batch["image"]), views.second(None, batch["image"])]
    of = [views.weak(None, batch["image"])]
    if "unlabeled_image" in batch:
        images = batch["unlabeled_image"]
        of += [views.weak(None, images), views.strong(None, images)]
    return of


if __name__ == "__main__":
    # Both libraries share a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    command.start("peers", run, define_flags)
