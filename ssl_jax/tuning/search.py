"""The search and its finals: trials of settings, each judged on labels held out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssl_jax.train.parts import Trains
from ssl_jax.tuning import space
from ssl_jax.tuning.bench import Bench, OutOfTime
from ssl_jax.tuning.budget import Budget, Finals
from ssl_jax.tuning.budget import finals as planned
from ssl_jax.tuning.space import Space
from ssl_jax.tuning.study import FACTOR, PARTS, Study, figure
from ssl_jax.workdir import logs

_NOTED = ("batch_size", "how_batch_size", "rates", "compiles", "images", "whole")
_LATE = 0.05  # of the budget: so much later a trial that was thought to fit is ended


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What was found before the search, and what it is of."""

    batch_size: int  # the fastest, which is tried beside the config's own
    how_batch_size: str
    rates: Mapping[str, float]  # by optimizer, that with the lowest loss
    compiles: bool  # whether trials may need programs of their own
    images: int  # labeled ones that a trial sees
    whole: bool  # whether that is as many as the config's own steps see
    section: Trains
    config: Mapping

    def noted(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _NOTED}

    @classmethod
    def of(cls, noted: Mapping, section: Trains, config: Mapping) -> "Stages":
        return cls(**noted, section=section, config=config)

    def space(self, bench: Bench) -> Space:
        """What there is to choose."""
        found: Space = {}
        if self.compiles:
            found = space.programs(
                self.section,
                self.config,
                methods=self.config["tune"]["methods"],
                most_unlabeled=len(bench.data().split.unlabeled) // self.batch_size,
            )
        if len(self.rates) == 1:  # there was no time for another optimizer's
            found.pop("optimizer.name", None)
        if self.batch_size != self.section.batch_size:
            # Both are compiled. More images/s with fewer steps for them may be worse.
            sizes = (self.section.batch_size, self.batch_size)
            found["batch_size"] = space.Choice(sizes)
        own = space.rate(self.section, self.config)
        for name, lowest in self.rates.items():
            # Of another optimizer, the config's own rate says nothing.
            around = own if name == self.optimizer else lowest / space.USUAL
            found[f"learning_rate.{name}"] = space.rates(lowest, around)
        if self.whole:
            found["length"] = space.LENGTH
        found |= space.numbers(self.section, self.config)
        for field in () if bench.network else space.of_network(found):
            del found[field]
        return found

    @property
    def optimizer(self) -> str:
        """The config's own."""
        return self.config[self.section.name]["optimizer"]["name"]

    def values(self, chosen: Mapping[str, Any], *, whole: bool = False) -> dict:
        """The settings of a trial, as `Bench.changed` takes them.

        Args:
          whole: of the run itself, which may have more steps than a trial.
        """
        chosen = {"batch_size": self.batch_size, **chosen}
        length = chosen.pop("length", 1.0)
        values = space.values(chosen, self.section, self.config)
        return self._long(values, length, whole)

    def own(self) -> dict:
        """The config's own settings, as those of a trial."""
        return self._long({}, 1.0, whole=False)

    def own_value(self, field: str) -> Any:
        """The config's own, of a field of the space."""
        of_run = {"length": 1.0, "model": self.config["model"]}
        value = {**of_run, **self.config[self.section.name]}
        for part in field.split("."):
            value = value[part]
        return value

    def own_but(self, rate: float, where: Space) -> dict[str, Any]:
        """The config's own value of each field of a space, with this learning rate."""
        fields = (field for field in where if not field.startswith("learning_rate."))
        own = {field: self.own_value(field) for field in fields}
        return {**own, f"learning_rate.{self.optimizer}": rate}

    def usual(self, where: Space) -> dict[str, Any]:
        """These with the range test's learning rate, at the batch size that it was of,
        which are tried next; nothing where that is the config's own."""
        own = space.rate(self.section, self.config)
        rate = self.rates.get(self.optimizer, 0.0) / space.USUAL
        if not rate or (math.isclose(rate, own) and "batch_size" not in where):
            return {}
        usual = self.own_but(rate, where)
        return usual | (
            {"batch_size": self.batch_size} if "batch_size" in where else {}
        )

    def others(self, where: Space) -> list[dict[str, Any]]:
        """The config's own settings but for one choice, each other value of each: so
        that all are seen beside them, however few trials there are."""
        own = self.own_but(space.rate(self.section, self.config), where)
        found = []
        for field, choice in where.items():
            if not isinstance(choice, space.Choice) or field == "batch_size":
                continue  # which `usual` has
            for value in choice.values[1:]:
                other = {**own, field: value}
                if field == "optimizer.name":
                    other[f"learning_rate.{value}"] = self.rates[value] / space.USUAL
                found.append(other)
        return found

    def _long(self, values, length, whole):
        """With steps that see as many images, labeled or not, as the config's."""
        section = self.section
        own = section.batch_size * (1 + section.unlabeled_ratio)
        ratio = values.get("unlabeled_ratio", section.unlabeled_ratio)
        per_step = values.get("batch_size", section.batch_size) * (1 + ratio)
        labeled = section.steps * section.batch_size if whole else self.images
        steps = length * labeled / section.batch_size * own / per_step
        part = section.steps_per_call if whole else PARTS * section.steps_per_call
        steps = max(round(steps / part), 1) * part
        return space.lengthened(values, steps, section, self.config)


def stops(steps: int) -> dict[int, int]:
    """{part: step} at which a trial of so many steps, a multiple of `PARTS`, is
    judged."""
    part, found = 1, {}
    while part <= PARTS:
        found[part] = steps * part // PARTS
        part *= FACTOR
    return found


def search(
    bench: Bench, stages: Stages, study: Study, budget: Budget, trials: int
) -> None:
    """Tries settings until there is time for the finals alone, or `trials` are over
    (0: no limit)."""
    where = stages.space(bench)
    study.again()
    if not study.has_own and not _own_waits(study):
        _queue_own(stages, study, where)
    logs.say(f"tune: to choose: {', '.join(where)}")
    own = stages.own()
    reserve = _plan(bench, stages, budget).runs * bench.seconds(own, own["steps"])
    first_ones = [*filter(None, (stages.usual(where), *stages.others(where)))]
    while not trials or len(study.trials) < trials:
        first, queued = not study.has_own, study.known("queued", 0)
        if not first and not study.waiting and queued < len(first_ones):
            study.queue(first_ones[queued], where)
            study.note("queued", queued + 1)
        ends = budget.total - (0 if first else reserve)
        if not first and budget.spent + _least(bench, stages) > ends:
            return
        if not _try(bench, stages, study, budget, where, ends):
            return


def finals(bench: Bench, stages: Stages, study: Study, budget: Budget) -> None:
    """Trains the config's own settings and the best of the search on other labels held
    out, as often as there is time for; noted as ["own" or trial, draw, accuracy, loss].
    """
    plan, rows = _plan(bench, stages, budget), study.known("finals", [])
    rivals = [trial for trial in study.best if not trial.user_attrs.get("own")]
    rivals = [str(trial.number) for trial in rivals[: plan.candidates - 1]]
    chosen = {str(trial.number): trial.params for trial in study.best}
    if not rivals:
        return
    for draw in range(1, plan.rounds + 1):
        for name in ("own", *rivals):
            if any(row[:2] == [name, draw] for row in rows):
                continue
            values = stages.own() if name == "own" else stages.values(chosen[name])
            if bench.seconds(values, values["steps"]) > budget.left + _late(budget):
                return
            said = f"finals, round {draw} of {plan.rounds}: "
            said += "the config's own" if name == "own" else f"trial {name}"
            late = 2 * _late(budget)
            try:
                (judged,) = bench.train(
                    values,
                    (values["steps"],),
                    draw=draw,
                    until=lambda late=late: budget.left < -late,
                    said=said,
                )
            except OutOfTime:
                return
            logs.say(f"tune: {said}: accuracy {judged.accuracy:.4f}")
            rows = [*rows, [name, draw, judged.accuracy, min(judged.loss, 1e9)]]
            study.note("finals", rows)
            study.note("spent", budget.spent)


def _plan(bench, stages, budget) -> Finals:
    own = stages.own()
    return planned(budget, bench.seconds(own, own["steps"]))


def _late(budget):
    return _LATE * budget.total


def _least(bench, stages):
    """Seconds of the least that can be learned of a trial."""
    own = stages.own()
    return bench.seconds(own, stops(own["steps"])[1])


def _own_waits(study):
    return any(trial.user_attrs.get("own") for trial in study.waiting)


def _queue_own(stages, study, where):
    """The config's own settings, which come first."""
    rate = space.rate(stages.section, stages.config)
    study.queue(stages.own_but(rate, where), where, own=True)


def _try(bench, stages, study, budget, where, ends):
    """One trial; whether there may be time for another."""
    trial, chosen = study.ask(where)
    own = trial.user_attrs.get("own", False)
    values = stages.own() if own else stages.values(chosen)
    at = {step: part for part, step in stops(values["steps"]).items()}
    said = f"trial {trial.number}: {_said(chosen, stages, own)}"
    late = ends + _late(budget)
    judged_at = bench.train(
        values, tuple(at), until=lambda: budget.spent > late, said=said
    )
    value = 0.0
    try:
        for judged in judged_at:
            value = figure(judged.accuracy, judged.loss)
            study.note("spent", budget.spent)
            trial.set_user_attr("judged", list(judged))
            part = at[judged.step]
            over = part == PARTS
            verdict = "to its end" if over else "goes on"
            trial.report(value, part)
            stopped = not over and not own and trial.should_prune()
            next_step = values["steps"] * min(part * FACTOR, PARTS) // PARTS
            more = bench.seconds(values, next_step - judged.step)
            late_for_it = not over and not own and budget.spent + more > ends
            if stopped:
                verdict = "others are better: ended"
            elif late_for_it:
                verdict = "no time is left for more"
            logs.say(
                f"tune: trial {trial.number}: accuracy {judged.accuracy:.4f}, loss "
                f"{judged.loss:.3f} at step {judged.step} of {values['steps']}; "
                f"{verdict}"
            )
            if stopped:
                study.prune(trial)
                return True
            if late_for_it:
                study.drop(trial)
                return False
    except OutOfTime:
        study.drop(trial)
        return False
    study.tell(trial, value)
    return True


def _said(chosen, stages, own):
    if own:
        return "the config's own settings"
    name = chosen.get("optimizer.name")
    return ", ".join(
        f"{field}={value:.3g}" if isinstance(value, float) else f"{field}={value}"
        for field, value in chosen.items()
        if name is None
        or not field.startswith("learning_rate.")
        or field == f"learning_rate.{name}"
    )
