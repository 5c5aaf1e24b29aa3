"""Our side of peers.py."""

import time

import jax
from ml_collections import ConfigDict

from experiments.speed import works
from experiments.speed.works import Work
from ssl_jax import core
from ssl_jax.cli import process
from ssl_jax.data.dataset import Dataset
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import results


class Ours:
    """The compiled call of a config's phase, in a process that is set up as launch.py
    sets up its own."""

    def __init__(
        self,
        work: Work,
        config: ConfigDict,
        dataset: Dataset,
        *,
        tf32: bool,
        on_gpu: bool,
    ):
        """
        Raises:
          UserError: as `works.check_device`.
        """
        process.set_up(config)
        works.check_device(on_gpu)
        if on_gpu:
            precision = "tensorfloat32" if tf32 else "float32"
            jax.config.update("jax_default_matmul_precision", precision)
        mesh = core.make_mesh()
        self.phase = works.prepared(work, config, dataset, mesh)
        with jax.set_mesh(mesh):
            self.state, self.sums, self.call, _ = compile_phase(self.phase)
        self.device = results.device(mesh)
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
