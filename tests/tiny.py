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
    if train.augment:
        train.augment.flip = False
    if "shift" in train.augment:
        train.augment.shift = 1
    run = base.run("tiny", train=train)
    if algorithms.draws_from(algorithm) == "graph":
        run.model = base.model("gcn")
        train.optimizer.update(name="adam", learning_rate=0.01, weight_decay=0.0)
    return base.debug(run, 8, 8, 1, 10)


def build(tiny: ConfigDict, num_devices: int = 1) -> phases.Phase:
    """The phase "train" on the first `num_devices` devices."""
    mesh = core.make_mesh(jax.devices()[:num_devices])
    on_graph = sections.on_graph(tiny)
    data = loading.load(tiny.data, mesh, seed=tiny.seed, as_graph=on_graph)
    return phases.build_phase(tiny, "train", data, mesh)


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
