"""What docs/scaling.md counts: a step's work, memory, and what devices tell each other.

python -m experiments.scaling [--only=fixmatch_cifar10]

Keeps a line a case in experiments/results/scaling.jsonl. Nothing is trained and nothing
timed. Work and memory are counted in the trace of the network at the paper's size. What
devices exchange is read from the train step compiled for 8 virtual CPU devices, on few
and small images: it hangs on neither, which a test compares.
"""

import re
from collections.abc import Iterator
from math import prod

import jax
import jax.extend
import jax.numpy as jnp
from absl import flags
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from configs import base
from experiments import command, jobs
from ssl_jax import algorithms, core, models
from ssl_jax.errors import UserError
from ssl_jax.models import resnet, wide_resnet
from ssl_jax.train import sections
from ssl_jax.workdir import results

DEVICES = 8
IMAGENET = dict(image=(224, 224, 3), classes=1000, images=1_281_167)
CIFAR10 = dict(image=(32, 32, 3), classes=10, images=50_000)


def cases() -> dict[str, tuple[ConfigDict, dict]]:
    """Name -> (configuration, its data's sizes)."""
    byol = base.phase(base.algorithm("byol.BYOL"))
    byol.augment.update(side=224, resize=256)
    byol.optimizer.update(name="lars", nesterov=False)
    byol.batch_size = 4096  # arXiv:2006.07733, section 3.3
    fixmatch = base.phase(base.algorithm("fixmatch.FixMatch"))
    fixmatch.update(batch_size=1024, unlabeled_ratio=5)  # arXiv:2001.07685, 4.3
    small = jobs.load("cifar10")
    small.model.dtype = "bfloat16"
    return {
        "byol_imagenet": (_with_resnet("byol_imagenet", byol), IMAGENET),
        "fixmatch_imagenet": (_with_resnet("fixmatch_imagenet", fixmatch), IMAGENET),
        "fixmatch_cifar10": (small, CIFAR10),
    }


def _with_resnet(name, phase):
    run = base.run(name, train=phase)
    run.model = base.model("resnet", depth=50, dtype="bfloat16")
    return run


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_list("only", "", "names of cases; default: all", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed.

    Raises:
      UserError: --only names no case.
    """
    jax.config.update("jax_num_cpu_devices", DEVICES)
    chosen = cases()
    if unknown := set(given.only) - set(chosen):
        raise UserError(
            f"--only={','.join(sorted(unknown))} is no case; there are: "
            f"{', '.join(chosen)}."
        )
    for name in given.only or chosen:
        jobs.keep("scaling", name, measure(*chosen[name]))


def measure(config: ConfigDict, sizes: dict) -> dict:
    """The counts of one case."""
    section = sections.parse(config).trained["train"]
    image, classes = sizes["image"], sizes["classes"]
    model = models.build(num_classes=classes, **config.model)
    # BYOL's two views, or labeled, weak and strong ones, all of them with gradient.
    views = 2 if section.method.views_kind == "two_crops" else 1
    seen = section.batch_size * (views + 2 * section.unlabeled_ratio)
    again = section.batch_size * views if "target" in _state(config, sizes).extra else 0
    per_image = encoder(model, image)
    return {
        "config": config.to_dict(),
        "sizes": sizes,
        "device": results.device(core.make_mesh()),
        "versions": results.versions(),
        "git": results.git_state(),
        "images_with_gradient": seen,
        "images_without": again,
        "per_image": per_image,
        "flops": 2 * per_image["multiply_adds"] * (3 * seen + again),
        "state_bytes": state_bytes(_state(config, sizes)),
        "all_reduces": all_reduces(compiled(config, sizes)),
        "all_reduces_in_4_parts": all_reduces(compiled(config, sizes, parts=4))
        if image[0] == 32
        else None,
    }


def encoder(model: models.Classifier, image: tuple[int, ...]) -> dict[str, int]:
    """Of one image: multiply-adds of the encoder's convolutions; bytes of what they
    take and give, which the backward pass needs; and of what residual blocks give,
    which is what it needs with `remat`."""
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    init = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)

    def forward(variables, x):
        return model.apply(
            variables,
            x,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, _BLOCKS),
        )

    jaxpr, (_, seen) = jax.make_jaxpr(forward, return_shape=True)(init, x)
    convolutions = list(_equations(jaxpr.jaxpr, "conv_general_dilated"))
    kernels = [prod(equation.invars[1].aval.shape[:3]) for equation in convolutions]
    outputs = [equation.outvars[0].aval for equation in convolutions]
    return {
        "multiply_adds": sum(
            n * aval.size for n, aval in zip(kernels, outputs, strict=True)
        ),
        "kept_bytes": sum(
            _bytes(equation.invars[0].aval) + _bytes(equation.outvars[0].aval)
            for equation in convolutions
        ),
        "remat_bytes": sum(map(_bytes, jax.tree.leaves(seen["intermediates"]))),
    }


def _equations(jaxpr, name) -> Iterator:
    for equation in jaxpr.eqns:
        if equation.primitive.name == name:
            yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner, name)


def _bytes(aval):
    return aval.size * aval.dtype.itemsize


def state_bytes(state: core.TrainState) -> dict[str, int]:
    """Of the parts of a TrainState."""
    return {
        part: sum(map(_bytes, jax.tree.leaves(getattr(state, part))))
        for part in ("params", "model_state", "opt_state", "extra")
    }


def _algorithm(config, sizes, parts=1):
    section = sections.parse(config).trained["train"]
    model = models.build(num_classes=sizes["classes"], **config.model)
    return algorithms.build(
        section.method,
        section.hparams,
        model=models.in_parts(model, parts) if parts > 1 else model,
        tx=section.tx,
        views=section.views,
        num_classes=sizes["classes"],
        num_labeled=sizes["classes"] * 10,
        labeled_K=(10,) * sizes["classes"],
        num_unlabeled=sizes["images"],
        total_steps=section.steps,
    )


def _batch(config, image, batch_size, sharding=None):
    """Shapes of a batch."""
    rows = {"image": batch_size}
    if config.train.unlabeled_ratio:
        rows["unlabeled_image"] = batch_size * config.train.unlabeled_ratio
    batch = {
        name: jax.ShapeDtypeStruct((n, *image), jnp.uint8, sharding=sharding)
        for name, n in rows.items()
    }
    numbers = {"label": batch_size, "index": batch_size}
    for name in ("unlabeled_index", "unlabeled_label"):
        if "unlabeled_image" in rows:
            numbers[name] = rows["unlabeled_image"]
    return batch | {
        name: jax.ShapeDtypeStruct((n,), jnp.int32, sharding=sharding)
        for name, n in numbers.items()
    }


def _state(config, sizes):
    algorithm = _algorithm(config, sizes)
    batch = _batch(config, sizes["image"], config.train.batch_size)
    return jax.eval_shape(algorithm.init, jax.random.key(0), batch)


def compiled(
    config: ConfigDict,
    sizes: dict,
    *,
    parts: int = 1,
    rows: int = 1,
    side: int = 32,
    devices: int = DEVICES,
) -> str:
    """The train step compiled for several devices, as text: each with `rows` labeled
    images of `side` pixels a part, without augmentation."""
    config = config.copy_and_resolve_references()
    augment, plain = config.train.augment, {"flip": False}
    plain |= dict(side=side, resize=side, jitter=0.0, grey=0.0)
    plain |= dict(blur=(0.0, 0.0), solarize=(0.0, 0.0), weak="none", strong="none")
    augment.update({key: value for key, value in plain.items() if key in augment})
    if augment.name != "two_crops":
        augment.update(side=0, resize=0)
    mesh = core.make_mesh(jax.devices()[:devices])
    by_rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    image = (side, side, sizes["image"][-1])
    batch = _batch(config, image, devices * parts * rows, by_rows)
    algorithm = _algorithm(config, sizes, parts)
    with jax.set_mesh(mesh):
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
            jax.eval_shape(algorithm.init, jax.random.key(0), batch),
        )
        step = jax.jit(algorithm.train_step, out_shardings=whole)
        return step.lower(state, batch, jax.random.key(0)).compile(_QUICKLY).as_text()


def all_reduces(text: str) -> dict[str, int]:
    """Bytes of each all-reduce of a compiled program -> how many have so many; and
    there is no other exchange."""
    sizes = {}
    for line in text.splitlines():
        found = re.match(r"\s*(?:ROOT )?%\S+ = (.*?) ([a-z-]+)\(", line)
        if not found or not found[2].startswith(_EXCHANGES):
            continue
        if found[2].endswith("-done"):
            continue
        if not found[2].startswith("all-reduce"):
            raise ValueError(f"no all-reduce: {line[:200]}")
        shapes = re.findall(r"\b[a-z]+(\d+)\[([\d,]*)\]", found[1])
        size = sum(
            int(bits) // 8 * prod(int(n) for n in shape.split(",") if n)
            for bits, shape in shapes
        )
        sizes[size] = sizes.get(size, 0) + 1
    return {str(size): sizes[size] for size in sorted(sizes)}  # keys as in JSON


_BLOCKS = (wide_resnet.Block, resnet.BasicBlock, resnet.Bottleneck)
# It never runs: exchanges are settled before code is made of what stands between them.
_QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
_EXCHANGES = ("all-", "collective-", "reduce-scatter", "ragged-", "send", "recv")


if __name__ == "__main__":
    command.start("scaling", run, define_flags)
