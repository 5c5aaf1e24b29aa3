"""Is the teacher of every network with BatchNorm as good as the network?

    python -m experiments.teachers [--steps=200] [--warmup=False]

Trains each on four noisy patterns, and prints the accuracy on other images: of the
network by its batch's own moments, by its running ones, and of its teacher. The decays
are 0.999; they rise, or with `--warmup=False` are one, as a check that it shows. Ends
with status 2 where the teacher is more than five points below the network. Takes
minutes, mostly to compile: tests/models/test_batch_norm.py does it with one network.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import command
from ssl_jax import core, models
from ssl_jax.algorithms.supervised import Supervised
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.errors import UserError

SMALL = {  # pixels a side, and hyper-parameters
    "cnn13": (12, {"width": 8}),
    "convnet": (8, {"filters": (8,)}),
    "efficientnet": (32, {"widen": 0.25, "deepen": 0.3}),
    "mobilenet": (32, {"widen": 0.25}),
    "resnet": (8, {"width": 4, "stem": "cifar"}),
    "wide_resnet": (8, {"widen": 1, "blocks": 1, "scales": 2}),
}


def accuracies(name: str, *, steps: int = 200, warmup: bool = True) -> dict[str, float]:
    """Of the network by a batch's moments and by its own, and of its teacher.

    Args:
      warmup: whether the decays of moments and teacher rise to 0.999.
    """
    side, hparams = SMALL[name]
    draw = np.random.default_rng(0)
    pattern_KHWC = draw.normal(size=(4, side, side, 1))

    def drawn(size):
        label_B = draw.integers(4, size=size)
        noise_BHWC = draw.normal(size=(size, side, side, 1))
        images = jnp.float32(pattern_KHWC[label_B] + noise_BHWC)
        return {"image": images, "label": jnp.int32(label_B)}

    hparams = {**hparams, "bn_momentum": 0.999, "bn_warmup": warmup}
    algorithm = Supervised(
        model=models.build(name, num_classes=4, dtype="float32", **hparams),
        tx=optax.adam(0.003),
        views=WeakStrong(plain=lambda x: x, weak=lambda _, x: x, strong=None),
        ema_decay=0.999,
        ema_warmup=warmup,
    )
    state = algorithm.init(jax.random.key(0), drawn(32))
    step = jax.jit(algorithm.train_step)
    for i in range(steps):
        state, _ = step(state, drawn(32), jax.random.key(i))
    test, network = drawn(500), (state.params, state.model_state)
    logits = {
        f"network, {of}": core.forward(
            algorithm.model, *network, test["image"], train=train
        )[0]
        for of, train in (("batch's moments", True), ("its moments", False))
    }
    logits["teacher"] = algorithm.predict(state, test)
    return {k: float((v.argmax(-1) == test["label"]).mean()) for k, v in logits.items()}


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_integer("steps", 200, "optimizer steps", flag_values=to)
    flags.DEFINE_bool("warmup", True, "whether decays rise", flag_values=to)


def main(given: flags.FlagValues) -> None:
    worse = []
    for name in SMALL:
        right = accuracies(name, steps=given.steps, warmup=given.warmup)
        print(name, ", ".join(f"{k} {v:.3f}" for k, v in right.items()), flush=True)
        if right["teacher"] < max(right.values()) - 0.05:
            worse.append(name)
    if worse:
        raise UserError(f"a teacher is more than five points worse: {', '.join(worse)}")


if __name__ == "__main__":
    command.start("teachers", main, define_flags)
