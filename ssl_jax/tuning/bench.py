"""Where settings are tried: a phase trained for some steps, judged on labels held out.

A program is compiled once for all settings that differ in numbers alone: those of
`OF_OPTIMIZER`, `OF_METHOD`, `OF_VIEWS` and `OF_NETWORK` are given to it at each call,
and so is each step's learning rate, whose schedule is computed outside. What else
differs is another program.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax import algorithms, augment, models
from ssl_jax.core import PyTree, one_at_a_time, place
from ssl_jax.data.loading import Data
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import optimizers, phases, program, sections, stopping
from ssl_jax.train.optimizers import Optimizer
from ssl_jax.train.parts import Run, Trains
from ssl_jax.tuning import held_out, space
from ssl_jax.workdir import handover, logs, settings

OF_OPTIMIZER = ("weight_decay", "momentum")
OF_METHOD = ("threshold", "unlabeled_weight", "label_smoothing")
OF_VIEWS = ("strength",)
OF_NETWORK = ("dropout",)
_OF_SCHEDULE = ("learning_rate", "per_batch", "schedule", "warmup_steps")
_OF_LOOP = ("steps", "log_every", "eval_every", "checkpoint_every")
_OF_LOOP += stopping.RULES
_OFTEN = 2.0  # seconds: the clock is looked at as often

# {"rate": [steps], "optimizer": {...}, "method": {...}, "views": {}, "network": {}}
Numbers = Mapping[str, Any]


class Judged(NamedTuple):
    """What a trial has reached."""

    step: int
    accuracy: float  # of the images held out
    loss: float  # cross-entropy, in nats; inf where it is not finite
    seconds: float  # of training, without compiling and judging


class Compiled(NamedTuple):
    call: Callable  # (state, sums, arrays, items, numbers) -> (state, sums)
    sums: PyTree  # of no step, on the host
    evaluate: Callable  # (state, batches) -> (sums, counts_KK)
    seconds: float  # that it took
    temporary: int  # bytes that a step takes beside what it is given


class OutOfTime(Exception):
    """A trial was to end before it was trained."""


class Bench:
    """A launch's programs and data: like a workdir a place, which keeps what was
    compiled for the next trial.

    Args:
      config: of the run, whose phase `name` is tuned.
      share: as in `held_out.split`.
      network: whether settings of the network may be chosen, which other phases have.
    """

    def __init__(
        self,
        config: Mapping,
        name: str,
        data: Data,
        mesh: Mesh,
        share: float,
        *,
        network: bool = True,
    ):
        self.config, self.name, self.mesh = config, name, mesh
        self.network = network
        self._data, self._share = data, share
        self._programs: dict[str, Compiled] = {}
        self._states: dict[str, PyTree] = {}  # of each at step 0, on the host
        self._before: Path | None = None
        self._draws: dict[int, Data] = {}
        self._told: set[str] = set()  # methods that have to know their numbers
        self._pace = 0.0  # images/s, as last seen

    @property
    def programs(self) -> int:
        return len(self._programs)

    @property
    def compiling(self) -> float:
        """Seconds, of all programs."""
        return sum(compiled.seconds for compiled in self._programs.values())

    def follow(self, before: Path, model: Mapping[str, Any]) -> None:
        """Has trials start from the run in the workdir `before`, and of the network
        `model`, instead of from what the phase says.

        That run has learned from all labeled images but those of draw 0: from now on
        these alone judge, and another draw is another order of the batches.
        """
        self._before = before
        self.config = {**self.config, "model": model}
        self._states.clear()

    def changed(self, values: Mapping[str, Any]) -> tuple[Run, Trains]:
        """The run, and its phase with other settings: {"optimizer.name": "adam"}.

        Raises:
          UserError: a mistake in them.
        """
        of_run = space.of_run(values, self.name)
        run = sections.parse(sections.changed(self.config, of_run), self.mesh.size)
        return run, run.trained[self.name]

    def seconds(self, values: Mapping[str, Any], steps: int) -> float:
        """That so many steps with these settings take, at the pace of the last."""
        return steps * self._images(values) / self._pace

    def _images(self, values):
        """That a step sees, labeled or not."""
        own = self.config[self.name]
        size, ratio = (
            values.get(field, own[field]) for field in ("batch_size", "unlabeled_ratio")
        )
        return size * (1 + ratio)

    def data(self, draw: int = 0) -> Data:
        """Of a trial; `draw` as in `held_out.split`."""
        if draw not in self._draws:
            how = dict(seed=self.config["seed"], draw=draw)
            self._draws[draw] = held_out.drawn(
                self._data, self._share, self.mesh, **how
            )
        return self._draws[draw]

    def compiled(self, values: Mapping[str, Any]) -> tuple[Compiled, str]:
        """The program of these settings, inside `jax.set_mesh`, and in words what it
        cost now."""
        run, section = self.changed(values)
        return self._compiled(
            run, section, phases.build(run, section, self.data(), self.mesh)
        )

    def train(
        self,
        values: Mapping[str, Any],
        stops: tuple[int, ...],
        *,
        draw: int = 0,
        rates: np.ndarray | None = None,
        watch: Callable[[PyTree], bool] | None = None,
        until: Callable[[], bool] = lambda: False,
        said: str = "",
    ) -> Iterator[Judged]:
        """Trains with other settings, inside `jax.set_mesh`, and judges at each of the
        steps `stops`.

        Args:
          values: as in `changed`.
          rates: of each step, instead of the phase's schedule.
          watch: is given the metrics of each call, and says whether to end there.
          until: whether the time is over, asked now and then.
          said: what to tell, before what compiling took.

        Raises:
          OutOfTime: it is over.
          UserError: a mistake in the settings.
        """
        run, section = self.changed(values)
        data = self.data(0 if self._before else draw)
        phase = phases.build(run, section, data, self.mesh)
        compiled, cost = self._compiled(run, section, phase)
        feed = phase.feed
        if self._before and draw:
            reordered = dataclasses.replace(run, seed=run.seed + draw)
            feed = phases.build(reordered, section, data, self.mesh).feed
        if said:
            logs.say(f"tune: {said} ({cost})")
        if rates is None:
            steps = jnp.arange(section.steps)
            rates = np.asarray(jax.jit(jax.vmap(section.rate))(steps))
        numbers = self._numbers(run, section)
        replicated = NamedSharding(self.mesh, P())
        state = self._state(run, section, phase)
        state, sums = place((state, compiled.sums), replicated)
        step, size, paused = 0, section.steps_per_call, 0.0
        began = looked = time.monotonic()
        for item in feed.items(0, stops[-1]):
            now = {**numbers, "rate": np.float32(rates[step : step + size])}
            state, sums = compiled.call(state, sums, feed.arrays, item, now)
            step += size
            if watch is not None:
                seen = jax.device_get(sums)
                sums = place(compiled.sums, replicated)
                if watch(seen):
                    return
            if time.monotonic() - looked > _OFTEN:
                jax.block_until_ready(state)
                looked = time.monotonic()
                if until():
                    raise OutOfTime
            if step in stops:
                jax.block_until_ready(state)
                pause = time.monotonic()
                seconds = pause - began - paused
                self._pace = step * self._images(values) / seconds
                scores, _ = compiled.evaluate(state, data.eval_sets["val"])
                yield _judged(jax.device_get(scores), step, seconds)
                paused += time.monotonic() - pause

    def _numbers(self, run: Run, section: Trains) -> Numbers:
        optimizer = run.config[section.name]["optimizer"]
        has_head = models.Classifier in models.declare(run.model.name)
        given = {
            "method": _numbers(section.hparams, OF_METHOD),
            "views": _numbers(section.augment, OF_VIEWS),
            "network": _numbers(run.model.hparams if has_head else {}, OF_NETWORK),
        }
        if section.algorithm in self._told:
            given = dict.fromkeys(given, {})
        return {"optimizer": _numbers(optimizer, OF_OPTIMIZER), **given}

    def _state(self, run, section, phase):
        """At step 0, on the host."""
        key = _static(run, section, told=section.algorithm in self._told)
        if key not in self._states:
            if self._before:
                before = str(self._before)
                initial = handover.handed_over(before, section.keep, Path())
            else:
                initial = program.initial_of(phase, Path())
            self._states[key] = jax.device_get(program.initialise(phase, initial))
        return self._states[key]

    def _compiled(self, run, section, phase):
        key = _static(run, section, told=section.algorithm in self._told)
        if key in self._programs:
            return self._programs[key], "nothing compiled"
        numbers = self._numbers(run, section)
        try:
            compiled = self._compile(run, section, phase, numbers)
        except (
            jax.errors.ConcretizationTypeError,
            jax.errors.TracerArrayConversionError,
        ):
            if section.algorithm in self._told:
                raise
            self._told.add(section.algorithm)
            return self._compiled(run, section, phase)
        self._programs[key] = compiled
        return compiled, f"compiled in {compiled.seconds:.1f} s"

    def _compile(self, run, section, phase, numbers):
        began, size = time.monotonic(), section.steps_per_call
        replicated = NamedSharding(self.mesh, P())
        _, key_steps = jax.random.split(phase.key)
        optimizer = Optimizer(**run.config[section.name]["optimizer"])
        given = {**numbers, "rate": np.zeros(size, np.float32)}

        @partial(jax.jit, inline=True)
        def step(state, batch, key, numbers):
            at = dataclasses.replace(optimizer, **numbers["optimizer"])
            tx = optimizers.at_rate(at, lambda _: numbers["rate"])
            known = dataclasses.replace(phase.in_parts, tx=tx, **numbers["method"])
            network = known.model.clone(**numbers["network"])
            known = dataclasses.replace(known, model=network)
            if of_views := numbers["views"]:
                views = augment.build(**{**section.augment, **of_views})
                known = dataclasses.replace(known, views=views)
            return known.train_step(state, batch, key)

        def call(state, sums, arrays, items, numbers):
            def one_step(state, sums, item):
                item, rate = item
                now = partial(step, numbers={**numbers, "rate": rate})
                return program.train_step(
                    phase, now, key_steps, arrays, state, sums, item
                )

            with_rates = (items, numbers["rate"])
            return program.steps(one_step, (state, sums), with_rates, convolves)

        state = place(self._state(run, section, phase), replicated)
        first = {**given, "rate": given["rate"][0]}
        sums, convolves = program.traced(phase, partial(step, numbers=first), state)
        sums = place(sums, replicated)
        compiled = (
            jax.jit(call, donate_argnums=(0, 1), out_shardings=replicated)
            .lower(state, sums, phase.feed.arrays, program.first_item(phase), given)
            .compile()
        )
        evaluate = compile_evaluation(phase.algorithm, phase.rows, phase.key).sums
        jax.block_until_ready(evaluate(state, self.data().eval_sets["val"]))
        took = compiled.memory_analysis()
        return Compiled(
            call=one_at_a_time(compiled),
            sums=jax.device_get(sums),
            evaluate=evaluate,
            seconds=time.monotonic() - began,
            temporary=took.temp_size_in_bytes if took is not None else 0,
        )


def _static(run: Run, section: Trains, *, told: bool) -> str:
    """What of the settings a program is of."""
    own = settings.plain(run.config[section.name])
    network = settings.plain(run.config["model"])
    stays = ("steps",) if algorithms.takes(section.method, "total_steps") else ()
    for field in _OF_LOOP:
        if field not in stays:
            del own[field]
    for field in (*_OF_SCHEDULE, *OF_OPTIMIZER):
        del own["optimizer"][field]
    if not told:
        given = ((own["algorithm"], OF_METHOD), (own["augment"], OF_VIEWS))
        for part, fields in (*given, (network, OF_NETWORK)):
            for field in fields:
                part.pop(field, None)
    return json.dumps([own, network], sort_keys=True)


def _numbers(section, names):
    return {name: np.float32(section[name]) for name in names if name in section}


def _judged(scores, step, seconds) -> Judged:
    found = logs.computed(scores)
    accuracy, loss = float(found["accuracy"]), float(found["loss"])
    if not math.isfinite(loss):
        return Judged(step, 0.0, math.inf, seconds)
    return Judged(step, accuracy, loss, seconds)
