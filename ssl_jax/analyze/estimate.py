"""How long a run would take on this machine, by steps that are compiled and timed."""

import math

from jax.sharding import Mesh

from ssl_jax.data.loading import Data
from ssl_jax.train import pace, phases
from ssl_jax.train.parts import Probes, Run, Trains
from ssl_jax.workdir import results


def measured(run: Run, data: Data, mesh: Mesh) -> dict:
    """The time that each phase would take to its last step, and all of them together.

    A phase that may stop earlier takes less. Probes, an evaluation's k-NN, figures,
    checkpoints and the start of the program are not in it.

    Raises:
      UserError: a phase contradicts the data.
    """
    found = {s.name: _of_phase(run, s, data, mesh) for s in run.trained.values()}
    # Many seeds at once, and rounds of questions, are about so many runs.
    times = run.num_seeds * max(run.query.rounds, 1)
    return {
        "seconds": times * sum(phase["seconds"] for phase in found.values()),
        "runs": times,
        "phases": found,
        "not_counted": [
            *(f"the k-NN of {s.name}" for s in run.trained.values() if s.knn),
            *(s.name for s in run.sections if isinstance(s, Probes)),
        ],
        "device": results.device(mesh),
    }


def _of_phase(run: Run, section: Trains, data: Data, mesh: Mesh) -> dict:
    phase = phases.build(run, section, data, mesh)
    rate, compiling, once = pace.measured(phase, data)
    evaluations = math.ceil(section.steps / section.eval_every)
    return {
        "algorithm": section.algorithm,
        "steps": section.steps,
        "compile_seconds": round(compiling, 3),
        "seconds_per_step": round(1 / rate, 6),
        "images_per_second": round(phase.images_per_step * rate, 1),
        "evaluations": evaluations,
        "seconds_per_evaluation": round(once, 6),
        "seconds": round(compiling + section.steps / rate + evaluations * once, 3),
    }
