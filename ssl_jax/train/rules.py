"""What fields may say: a message for each mistake, none without."""

from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from ssl_jax import algorithms, models
from ssl_jax.core import can, named, ranges
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocol import BASELINES, Protocol
from ssl_jax.train import stopping
from ssl_jax.train.parts import Model, Query, Run, Trains, Tune
from ssl_jax.train.weights import AS_CONFIGURED, NORMALIZED
from ssl_jax.workdir import handover
from ssl_jax.workdir.files import expanded

# Which images to ask labels for: active/strategies.py has them.
STRATEGIES = ("entropy", "margin", "least_confidence", "k_center", "typical", "random")


def numbers(phase: Trains, may_validate: bool) -> Iterator[str]:
    """Numbers without meaning, alone or together.

    Args:
      may_validate: whether there may be images to validate on.
    """
    at = phase.name
    yield from ranges.mistakes(Trains, vars(phase), at)
    for name in ("steps", "log_every", "eval_every", "checkpoint_every"):
        if getattr(phase, name) % max(phase.steps_per_call, 1):
            yield (
                f"{at}.{name}={getattr(phase, name)} is not a multiple of "
                f"{at}.steps_per_call={phase.steps_per_call}."
            )
    for name in stopping.RULES:
        if getattr(phase, name) > 0 and not may_validate:
            yield (
                f"{at}.{name}={getattr(phase, name)} needs validation images: set "
                f"data.num_validation, or {at}.{name}=0."
            )
    if phase.patience > 0 and not can(phase.method, "predict"):
        yield (
            f"{at}.patience={phase.patience} watches an accuracy, which "
            f"{phase.algorithm} has not: use 0."
        )
    if phase.knn > 0 and not can(phase.method, "features"):
        yield f"{at}.knn={phase.knn}: {phase.algorithm} learns no features; use 0."
    if phase.method.draws_from == "graph" and phase.knn:
        yield f"{at}.knn={phase.knn} is for images: use 0 on a graph."


def beginning(
    phase: Trains,
    earlier: Container[str],
    trained: Mapping[str, Trains | None],
    to_train: bool,
) -> Iterator[str]:
    """What the phase starts from, and has its labels from.

    Args:
      earlier: names of the sections before it.
      trained: those of them that train; None for one with mistakes of its own.
      to_train: whether another run that it starts from must be there.
    """
    if phase.start_from != "scratch":
        if to_train and phase.start_from not in earlier:
            try:
                handover.finished_phase(Path(phase.start_from))
            except UserError as error:
                yield str(error)
        if not algorithms.takes(phase.method, "model"):
            yield (
                f"{phase.name}.start_from={phase.start_from!r}: {phase.algorithm} has "
                "no network to take over; use 'scratch'."
            )
    if not phase.labels_from:
        for field in ("confidence", "per_class", "rarer_first"):
            if value := getattr(phase, field):
                yield (
                    f"{phase.name}.{field}={value} chooses among pseudo-labels, which "
                    f"{phase.name} has not: name an earlier phase in "
                    f"{phase.name}.labels_from, or set {field}=0."
                )
        return
    # One that has mistakes of its own might well do.
    teachers = [n for n, s in trained.items() if s is None or can(s.method, "predict")]
    if phase.labels_from not in teachers:
        yield (
            f"{phase.name}.labels_from={phase.labels_from!r} must be a phase that "
            "`phases` has before it and that trains a classifier "
            f"({', '.join(teachers) or 'there is none'}); or '' for no pseudo-labels."
        )
    if phase.method.draws_from != "labeled":
        yield (
            f"{phase.name}.labels_from={phase.labels_from!r} labels images for "
            f"{phase.algorithm}, which does not draw its images from the labeled ones: "
            "use labels_from=''."
        )


def batches(phase: Trains, num_devices: int, accumulate: int) -> Iterator[str]:
    """Sizes that do not fit the method, the devices or the parts of a batch."""
    draws_from, size, at = phase.method.draws_from, phase.batch_size, phase.name
    whole, least = draws_from in ("pool", "graph"), phase.method.least_batch
    if 0 <= size < least and not whole:
        yield f"{at}.batch_size={size} must be at least {least} for {phase.algorithm}."
    for field in ("mixup_alpha", "cutmix_alpha"):
        if size == 1 and phase.hparams.get(field):
            yield (
                f"{at}.batch_size=1 has no other image to mix one with: use at least "
                f"2, or {at}.algorithm.{field}=0.0."
            )
    if size and whole:
        yield (
            f"{at}.batch_size={size}: a step of {phase.algorithm} sees all rows at "
            "once; use 0."
        )
    elif size % num_devices:
        yield (
            f"{at}.batch_size={size} does not divide over {num_devices} devices; use "
            f"a multiple of {num_devices}."
        )
    elif size % (num_devices * max(accumulate, 1)):
        over = f" over {num_devices} devices" if num_devices > 1 else ""
        yield (
            f"{at}.batch_size={size} does not divide{over} into "
            f"accumulate={accumulate} parts; use a multiple of "
            f"{num_devices * accumulate}."
        )
    if whole and accumulate > 1:
        yield (
            f"accumulate={accumulate}: a step of {phase.algorithm} sees all rows at "
            "once; use 1."
        )
    if phase.method.needs_unlabeled and phase.unlabeled_ratio == 0:
        yield (
            f"{phase.algorithm} learns from unlabeled images too: "
            f"{at}.unlabeled_ratio=0 must be at least 1."
        )
    if draws_from != "labeled" and phase.unlabeled_ratio:
        yield (
            f"{phase.algorithm} draws its images from the {draws_from}: "
            f"{at}.unlabeled_ratio={phase.unlabeled_ratio} must be 0."
        )


def weights(model: Model, to_train: bool) -> Iterator[str]:
    """A file that a network begins with.

    Args:
      to_train: whether it must be there.
    """
    known = ("", *NORMALIZED, AS_CONFIGURED)
    if model.normalized not in known:
        yield (
            f"model.normalized={model.normalized!r} is unknown; choose from "
            f"{', '.join(map(repr, known))}."
        )
    if to_train and model.weights and not expanded(model.weights).is_file():
        yield f"model.weights={model.weights!r}: there is no such file."
    if model.partial and not model.weights:
        yield "model.partial=True is of model.weights, which names no file."


def views(phase: Trains) -> Iterator[str]:
    """Views that the method cannot train on."""
    strong, method = phase.augment.get("strong"), phase.method
    if getattr(phase.views, "probe", None) and not method.learns_augmentation:
        yield (
            f"{phase.name}.augment.strong={strong!r} has rates that "
            f"{phase.algorithm} does not learn: use 'randaugment_google', or a method "
            "that learns them, such as fixmatch.FixMatch."
        )


def between_phases(run: Run) -> Iterator[str]:
    """Phases that do not go together."""
    on_graph = {
        name: section.method.draws_from == "graph"
        for name, section in run.trained.items()
    }
    model = models.find(run.model.name)
    for section in run.trained.values():
        graph = section.method.draws_from == "graph"
        if graph != (model.takes == "graph"):
            wanted = "a network on a graph, such as gcn" if graph else "an encoder"
            yield f"model.name={run.model.name!r}: {section.algorithm} trains {wanted}."
        yield from _patches(run, section, model)
    if run.num_seeds > 1:
        yield from at_once(run)
    if len(set(on_graph.values())) > 1:
        graph = [run.trained[name].algorithm for name, on in on_graph.items() if on]
        yield (
            f"{', '.join(graph)} learns from a graph, and the other phases from "
            "images: make them two runs."
        )


def _patches(run, section, model):
    """Of a method that hides patches of an image from its network."""
    if not section.method.hides_patches:
        return
    if not getattr(model, "hides_patches", False):
        yield (
            f"model.name={run.model.name!r}: {section.algorithm} hides patches, which "
            "this network does not know; use model.name=vit."
        )
    if run.accumulate > 1:
        yield (
            f"accumulate={run.accumulate}: {section.algorithm} hides patches of all "
            "images of a step at once; use 1."
        )


def at_once(run: Run) -> Iterator[str]:
    """Of a run of several seeds: what is not trained all at once."""
    if len(run.sections) > 1 or not run.trained:
        names = tuple(section.name for section in run.sections)
        yield (
            f"num_seeds={run.num_seeds} trains one phase, and phases={names}: use "
            "num_seeds=1, and --config.seed for each."
        )
        return
    (section,) = run.sections
    if section.steps % section.eval_every:
        yield (
            f"{section.name}.steps={section.steps} must be a multiple of "
            f"{section.name}.eval_every={section.eval_every} where "
            f"num_seeds={run.num_seeds} are trained at once."
        )
    if section.start_from != "scratch" or section.knn or run.query.rounds:
        yield (
            f"num_seeds={run.num_seeds} are trained from scratch at once, with neither "
            "knn nor query.rounds: set start_from='scratch' and these to 0."
        )
    if run.model.weights:
        yield (
            f"num_seeds={run.num_seeds} are trained from scratch at once, not from "
            f"model.weights={run.model.weights!r}: use num_seeds=1."
        )
    if run.profile:
        yield (
            f"profile={run.profile} traces single steps, and num_seeds={run.num_seeds} "
            "are one program: use profile=0, or num_seeds=1."
        )


def query(query: Query) -> Iterator[str]:
    """What is asked, and how much."""
    if query.strategy not in STRATEGIES:
        yield (
            f"query.strategy={query.strategy!r} is unknown; choose "
            f"{', '.join(STRATEGIES)}."
        )
    yield from ranges.mistakes(Query, vars(query), "query")


def tune(tune: Tune) -> Iterator[str]:
    """How long to look for settings, and among which methods."""
    yield from ranges.mistakes(Tune, vars(tune), "tune")
    if not tune.minutes and not tune.trials:
        yield (
            "tune.minutes=0 and tune.trials=0 set no end to --mode=tune: give one of "
            "them."
        )
    if unknown := sorted(set(tune.methods) - set(algorithms.names())):
        yield (
            f"tune.methods names {', '.join(map(repr, unknown))}; "
            f"{named.choices(unknown[0], algorithms.names())}"
        )


def probe(protocol: Protocol, name: str) -> Iterator[str]:
    """What the section `name` says of how features are judged."""
    yield from ranges.mistakes(Protocol, vars(protocol), name)
    if unknown := sorted(set(protocol.baselines) - set(BASELINES)):
        yield f"{name}.baselines names {unknown}; there are {' and '.join(BASELINES)}."
