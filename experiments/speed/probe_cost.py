"""What BYOL's online probe costs: the training step with and without it.

    python -m experiments.speed.probe_cost [cpu]

Named so, the result is kept as a line of experiments/results/probe_cost.jsonl.

The bare compiled step of byol_cifar10:small, views included, on one batch that already
lies on the device; digits stand in for the images, since no operation depends on what
they show. The steps run in turn, in an order that changes from round to round, so that
other load meets them alike. "again" is the step with the probe compiled a second time:
what it seems to cost is `noise`, and a cost no larger than that is not told from none.
Without the probe, its loss and accuracy are gone and with them all that XLA computes
for them; the optimizer still moves the head's weights, by a gradient of zero.
"""

import inspect
import os
import sys
import time
from statistics import median

import jax

from configs import byol_cifar10
from experiments import jobs
from ssl_jax import core
from ssl_jax.algorithms.byol import BYOL
from ssl_jax.core import mean
from ssl_jax.core.metrics import projection_std
from ssl_jax.train import phases
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import results

BAR = 0.03  # share of a step that the probe may cost


class WithoutProbe(BYOL):
    def loss(self, params, model_state, extra, views, labels_B, key):
        loss_B, outputs, model_state = self.objective(
            params, model_state, extra, views, key
        )
        metrics = {
            "objective": mean(loss_B),
            "projection_std": mean(projection_std(outputs[0].projection_BP)),
        }
        return loss_B.mean(), (model_state, metrics)


def measure(*, steps: int = 10, rounds: int = 15) -> dict:
    """What the probe adds to a step, as a share: the median of `rounds` of `steps`."""
    config = byol_cifar10.get_config("small")
    config.data.update(name="digits", digits_as=(32, 32, 3, 10))
    mesh = core.make_mesh()
    phase, _ = phases.prepared(config, "pretrain", mesh)
    without = WithoutProbe(**vars(phase.algorithm))
    with jax.set_mesh(mesh):
        programs = {
            "with": _stepping(phase),
            "without": _stepping(phase._replace(algorithm=without)),
            "again": _stepping(phase),
        }
    seconds = {name: [] for name in programs}
    cpu_seconds = {name: [] for name in programs}
    for run, _ in programs.values():
        run(2)  # warms up
    names = list(programs)
    for i in range(rounds):
        for name in names[i % 3 :] + names[: i % 3]:
            run, _ = programs[name]
            began, cpu_began = time.perf_counter(), time.process_time()
            run(steps)
            seconds[name].append((time.perf_counter() - began) / steps)
            cpu_seconds[name].append((time.process_time() - cpu_began) / steps)
    flops = {name: flops for name, (_, flops) in programs.items()}
    cost = _cost(seconds, "with", "without")
    return {
        "cost": cost,
        "bar": BAR,
        "within_bar": cost < BAR,
        "cpu_cost": _cost(cpu_seconds, "with", "without"),
        "noise": _cost(seconds, "with", "again"),
        "cpu_noise": _cost(cpu_seconds, "with", "again"),
        "flops_cost": flops["with"] / flops["without"] - 1,
        "flops_per_step": flops,
        "seconds_per_step": {n: round(median(s), 4) for n, s in seconds.items()},
        "rounds": {n: [round(x, 4) for x in s] for n, s in seconds.items()},
        "steps": steps,
        "batch": phase.section.batch_size,
        "device": results.device(mesh),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": results.versions(),
        "config": config.to_dict(),
    }


def _cost(taken, name, base):
    """The median over rounds of how much longer `name` takes, as a share."""
    pairs = zip(taken[name], taken[base], strict=True)
    return round(median(a / b for a, b in pairs) - 1, 4)


def _stepping(phase):
    """(run(steps): the phase's compiled call, over and over; its operations a step)."""
    program = compile_phase(phase)
    item = next(phase.feed.items(0, 1))
    left = program.state, program.sums

    def run(steps):
        nonlocal left
        for _ in range(steps):
            left = program.call(*left, phase.feed.arrays, item)
        jax.block_until_ready(left)

    return run, inspect.unwrap(program.call).cost_analysis().get("flops")


if __name__ == "__main__":
    jobs.keep("probe_cost", "".join(sys.argv[1:2]), measure())
