"""The smallest real run: digits, one small network, four devices or fewer."""

import jax
from ml_collections import ConfigDict

from configs import base
from ssl_jax import algorithms, core
from ssl_jax.data import loading
from ssl_jax.train import phases, sections
from ssl_jax.train.program import compile_phase


def config(algorithm: str = "fixmatch.FixMatch", **hparams) -> ConfigDict:
    train = base.phase(base.algorithm(algorithm, **hparams))
    if "flip" in train.augment:
        train.augment.flip = False
    if "shift" in train.augment:
        train.augment.shift = 1
    run = base.run("tiny", train=train)
    if algorithms.find(algorithm).hides_patches:
        run.model = base.model("vit")
    if algorithms.find(algorithm).draws_from == "graph":
        run.model = base.model("gcn")
        train.optimizer.update(name="adam", learning_rate=0.01, weight_decay=0.0)
    return base.debug(run, 8, 8, 1, 10)


def make_plain(config: ConfigDict) -> None:
    """Of a method on crops: these and nothing else, dense layers where it may."""
    if not algorithms.find(config.train.algorithm.name).hides_patches:
        config.model = base.model("mlp")
    still = dict(jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarize=(0.0, 0.0))
    config.train.augment.update(still, method="bilinear")
    if "small_side" in config.train.augment:
        config.train.augment.update(small_side=8, small_blur=0.0)


def build(tiny: ConfigDict, num_devices: int = 1) -> phases.Phase:
    """The phase "train" on the first `num_devices` devices."""
    mesh = core.make_mesh(jax.devices()[:num_devices])
    return phase(tiny, "train", load(tiny, mesh), mesh)


def phase(config: ConfigDict, name: str, data: loading.Data, mesh, labels=None):
    """The phase `name` of a config, on its data."""
    run = sections.parse(config, mesh.size)
    return phases.build(run, run.trained[name], data, mesh, labels)


def load(tiny: ConfigDict, mesh: jax.sharding.Mesh) -> loading.Data:
    run = sections.parse(tiny)
    return loading.load(run.data, mesh, seed=run.seed, as_graph=run.on_graph)


def train(phase: phases.Phase, steps: int):
    """(program, states, sums): after each of `steps` calls, on the host."""
    with jax.set_mesh(phase.mesh):
        program = compile_phase(phase)
        states, sums = [jax.device_get(program.state)], []
        state, zeros = program.state, jax.device_get(program.sums)
        for item in phase.feed.items(0, steps):
            state, step_sums = program.call(state, zeros, phase.feed.arrays, item)
            states.append(jax.device_get(state))
            sums.append(jax.device_get(step_sums))
    return program, states, sums
