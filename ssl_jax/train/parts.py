"""What a configuration is parsed into (sections.py): typed and frozen."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import optax

from ssl_jax.core import Algorithm
from ssl_jax.core.ranges import Count, Range, Rate, Seed, Share, Weight, Whole
from ssl_jax.data.wanted import Wanted
from ssl_jax.evaluate.protocol import Protocol

Tree = Mapping[str, Any]  # a section of the configuration
# Fields of the section "model" that are not the network's own: what it begins with.
BEGINNING = ("weights", "normalized", "partial")


@dataclass(frozen=True, kw_only=True)
class Trains:
    """A phase that trains; configs/base.py explains the fields from `start_from` on."""

    name: str
    algorithm: str  # "fixmatch.FixMatch"
    method: type[Algorithm]  # that class
    hparams: Tree  # its fields that have a default
    rate: optax.Schedule | None  # None: the method has no optimizer
    tx: optax.GradientTransformation | None
    augment: Tree  # {}: the method asks for no views
    views: Any  # of the kind that the method asks for, or None
    start_from: str
    keep: tuple[str, ...]
    labels_from: str
    confidence: Share
    per_class: Whole
    rarer_first: Weight
    steps: Count
    batch_size: Whole
    unlabeled_ratio: Whole
    steps_per_call: Count
    log_every: Count
    eval_every: Count
    checkpoint_every: Count
    knn: Whole
    patience: Whole
    loss_patience: Whole
    loss_gain: Rate
    loss_window: Whole


@dataclass(frozen=True, kw_only=True)
class Probes:
    """A phase that judges the features that an earlier one has learned."""

    name: str
    start_from: str
    protocol: Protocol


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str
    hparams: Tree
    weights: str  # a file to begin with, or ""
    normalized: str  # how its images were, a name of `weights.NORMALIZED`
    partial: bool


@dataclass(frozen=True, kw_only=True)
class Query:
    """How to ask for labels, and how often an oracle answers as the run goes on."""

    strategy: str
    size: Count
    rounds: Whole


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Which new images are asked about, and where the file goes."""

    dir: str
    out: str


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """What --mode=ablate leaves out, and how often."""

    parts: tuple[str, ...]
    seeds: Count


@dataclass(frozen=True, kw_only=True)
class Tune:
    """How long settings are looked for, and by what they are judged."""

    minutes: Weight
    trials: Whole
    held_out: Annotated[float, Range(0, 1, without="low and high")]
    methods: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A whole configuration."""

    name: str
    seed: Seed
    num_seeds: Count
    accumulate: Count
    cpu_devices: Whole
    deterministic: bool
    tensorboard: bool
    profile: Whole
    policy: str
    data: Wanted
    model: Model
    query: Query
    predict: Predict
    ablate: Ablate
    tune: Tune
    sections: tuple[Trains | Probes, ...]  # in order
    config: Tree  # what it was parsed from, for config.json

    @property
    def trained(self) -> dict[str, Trains]:
        """The phases that train, by name."""
        return {s.name: s for s in self.sections if isinstance(s, Trains)}

    def data_with(self, labels: str, *, again: bool = False) -> Wanted:
        """Its data, with the answers in the file `labels`; `again`: of a run that is
        there, whose images may have changed since."""
        changed = "accept" if again else self.data.changed
        return dataclasses.replace(self.data, labels=labels, changed=changed)

    @property
    def on_graph(self) -> bool:
        """Whether its phases learn from a graph."""
        return any(s.method.draws_from == "graph" for s in self.trained.values())
