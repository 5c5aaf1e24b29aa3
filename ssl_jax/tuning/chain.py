"""Phases that follow one another, tuned in order: each from what the one before has
become with the settings that were found for it.

Between two searches the ordinary run trains a phase (train/run.py), in a folder of the
search's. The images held out are the same for all: no phase ever learns from what a
later one is judged by.

The time is shared out before each search. Of what is left, the trainings still to come
are kept back, as long as they may take with the config's own settings; the rest is
divided over the searches still to come as whole runs of their phases take, compiling
included. So trials are the same part of a run in each, and what one phase leaves over
the next ones have.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from ssl_jax import algorithms
from ssl_jax.core import can
from ssl_jax.data.loading import Data
from ssl_jax.errors import UserError
from ssl_jax.train import phases, program, sections
from ssl_jax.train import run as runs
from ssl_jax.train.parts import Run, Trains
from ssl_jax.tuning import held_out, paces
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.paces import Pace
from ssl_jax.tuning.results import Found
from ssl_jax.tuning.study import Study
from ssl_jax.workdir import logs, policy
from ssl_jax.workdir.workdir import Workdir

_BESIDE = 1.2  # times a run's steps alone: it evaluates, saves and draws as well


class Plan(NamedTuple):
    """How long searches and the trainings between them may take, in seconds."""

    total: float  # math.inf: no limit
    runs: tuple[float, ...]  # each phase trained as the config says
    measuring: float = 0.0  # that it took to find this out

    def share(self, spent: float, over: int) -> float:
        """Of the search for the next phase.

        Args:
          spent: of the total, so far.
          over: phases that were searched for and trained.
        """
        to_come = self.runs[over:]
        rest = self.total - spent - sum(to_come[:-1])
        return rest * (to_come[0] / sum(to_come))


def of(wanted: Run) -> tuple[Trains, ...]:
    """The phases that settings are looked for: the last that classifies images, behind
    those of the run that it starts from.

    Raises:
      UserError: there is none, or one of them cannot be tuned.
    """
    at = "--mode=tune"
    for field, value in (
        ("num_seeds", wanted.num_seeds > 1),
        ("query.rounds", wanted.query.rounds),
    ):
        if value:
            raise UserError(f"{at} tries settings of one run: leave {field} as it is.")
    classifying = [section for section in wanted.trained.values() if _tunable(section)]
    if not classifying:
        raise UserError(
            f"{at} is for methods that train a classifier on labeled batches, and "
            f"{wanted.name} has none: {', '.join(wanted.trained)}."
        )
    chain = [classifying[-1]]
    while (before := wanted.trained.get(chain[0].start_from)) is not None:
        if not _tunable(before):
            raise UserError(
                f"{chain[0].name} starts from {before.name}, and {at} is for methods "
                f"that train a classifier on labeled batches, which {before.algorithm} "
                "does not: train that first, in a workdir of its own "
                f"(config.phases={before.name}), then tune {chain[0].name} from there, "
                f"by config.phases={chain[0].name} and "
                f"config.{chain[0].name}.start_from."
            )
        chain.insert(0, before)
    for section in chain:
        if section.labels_from:
            raise UserError(
                f"{section.name} has its labels from {section.labels_from} "
                f"({section.name}.labels_from), and {at} judges by labels that are "
                f"granted: tune {section.labels_from} alone, by "
                f"config.phases={section.labels_from}."
            )
    return tuple(chain)


def benches(
    wanted: Run, chain: Sequence[Trains], data: Data, mesh: Mesh
) -> dict[str, Bench]:
    """Where each is tried, by its name; those that follow from scratch, until there is
    something to `Bench.follow`. Inside `jax.set_mesh`.

    Raises:
      UserError: what one starts from will not fit; or as `held_out.split`.
    """
    share, found = wanted.tune.held_out, {}
    for section in chain:
        config = wanted.config
        if found:
            values = {f"{section.name}.start_from": "scratch"}
            config = sections.changed(config, {"phases": (section.name,), **values})
        network = not found and len(chain) == len(wanted.trained)
        found[section.name] = Bench(
            config, section.name, data, mesh, share, network=network
        )
    if len(found) > 1:
        held = found[chain[0].name].data()
        built = [phases.build(wanted, section, held, mesh) for section in chain]
        program.check_handovers(built)
    return found


def planned(
    wanted: Run,
    chain: Sequence[Trains],
    benches: Mapping[str, Bench],
    workdir: Workdir,
) -> tuple[Plan, Mapping[str, Pace]]:
    """How the time is shared out, and what this launch has measured for that: nothing
    of one phase, or without a limit. It is noted in the first phase's study.

    Raises:
      UserError: there is too little for a trial of each.
    """
    total = 60 * wanted.tune.minutes or math.inf
    if len(chain) == 1 or math.isinf(total):
        return Plan(total, (1.0,) * len(chain)), {}
    if Study.begun(workdir.path):
        noted = Study(workdir.path, wanted.seed).known("plan")
        if noted is not None:
            return Plan(total, tuple(noted["runs"]), noted["measuring"]), {}
    began = time.monotonic()
    of = {each.name: paces.measured(benches[each.name], each) for each in chain}
    runs = tuple(_run_seconds(each, of[each.name]) for each in chain)
    plan = Plan(total, runs, time.monotonic() - began)
    needed = {each.name: paces.search_seconds(each, of[each.name]) for each in chain}
    needed[chain[0].name] -= of[chain[0].name].compile_seconds  # it is done
    check(plan, needed)
    logs.say(f"tune: {_said(plan, list(needed))}")
    noted = {"runs": list(runs), "measuring": plan.measuring}
    Study(workdir.path, wanted.seed).note("plan", noted)
    return plan, of


def check(plan: Plan, needed: Mapping[str, float]) -> None:
    """Raises UserError where a phase's share of the time is too little for a trial.

    Args:
      needed: seconds of a search at least, by phase.
    """
    # Shares are as the runs are, so that one phase's need is another's waiting.
    parts = [run / sum(plan.runs) for run in plan.runs]
    searches = max(n / part for n, part in zip(needed.values(), parts, strict=True))
    trainings = sum(plan.runs[:-1])
    enough = plan.measuring + trainings + searches
    if plan.total >= enough:
        return
    raise UserError(
        f"tune.minutes={plan.total / 60:g} is too little for a trial of each phase: "
        f"compiling and measuring took {plan.measuring:.0f} s here, training "
        f"{', '.join(list(needed)[:-1])} in between takes up to {trainings:.0f} s, and "
        f"the searches {searches:.0f} s at least; use tune.minutes="
        f"{math.ceil(10 * 1.2 * enough / 60) / 10:g} or more."
    )


def train(
    wanted: Run,
    name: str,
    found: Found,
    before: Path | None,
    data: Data,
    workdir: Workdir,
    study: Study,
    mesh: Mesh,
) -> tuple[Path, float] | None:
    """Trains a phase with what was found for it, or goes on with that, for the next to
    start from: (its workdir, the seconds that it took over all launches); None where a
    signal ended it early.

    Args:
      before: the workdir of the phase that this one starts from; None: its own start.
      study: the phase's, where the time is noted.
    """
    folder = policy.trained(workdir.path, name)
    values = _laid(found.settings, wanted.config, name)
    values |= {"phases": (name,), "policy": ""}
    values[f"{name}.knn"] = 0  # there are no images to test on
    if before is not None:
        values[f"{name}.start_from"] = str(before.absolute())
    run = sections.parse(sections.changed(wanted.config, values), mesh.size)
    over = Workdir(folder).result is not None
    rows = Workdir(folder).journal.rows()
    # Of a launch that was killed the journal alone tells.
    took = max(study.known("training", 0.0), rows[-1]["seconds"] if rows else 0.0)
    if not over:
        logs.say(f"tune: {name} is trained with these, for the next phase: {folder}")
    began = time.monotonic()
    kept = held_out.without(data, wanted.tune.held_out, seed=wanted.seed)
    result = runs.on_data(run, kept, folder, mesh)
    if not over:
        took += time.monotonic() - began
        study.note("training", took)
    return None if result is None else (folder, took)


def _run_seconds(section, pace):
    """That the phase takes at most, where no rule ends it."""
    return pace.compile_seconds + _BESIDE * section.steps / pace.steps_per_second


def _said(plan, names):
    """How the time is shared out at first."""
    shares, spent = [], plan.measuring
    for over, name in enumerate(names):
        share = plan.share(spent, over)
        shares.append(f"{share / 60:.3g} to search for {name}")
        spent += share + plan.runs[over]
    kept = sum(plan.runs[:-1]) / 60
    return f"minutes: {', '.join(shares)}; up to {kept:.3g} to train in between"


def _laid(found, config, name):
    """Settings as `sections.changed` takes them: another method's section whole."""
    at, own = f"{name}.algorithm", config[name]["algorithm"]
    if found.get(f"{at}.name", own["name"]) == own["name"]:
        return dict(found)
    beside = {f: value for f, value in found.items() if not f.startswith(f"{at}.")}
    whole = {f.removeprefix(f"{at}."): found[f] for f in found.keys() - beside.keys()}
    return {**beside, at: whole}


def _tunable(section):
    return (
        can(section.method, "predict")
        and section.method.draws_from == "labeled"
        and algorithms.takes(section.method, "tx")
    )
