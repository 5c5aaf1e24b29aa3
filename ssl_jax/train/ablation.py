"""What each part of a run adds: the same run without it, by the same seeds.

A part is something that a configuration has and could do without, at a field of its
own: the loss of unlabeled images, strong augmentation, the average that is judged. Left
out, all else stays: labels, network, steps and images a step. A field that the method
never reads is no part of the run. A phase that the part is not in, nor in what it goes
on from, is not trained again, but is the whole run's.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from ssl_jax.core import make_mesh, named
from ssl_jax.errors import UserError
from ssl_jax.train import adapted, phases, pictures, sections
from ssl_jax.train import run as runs
from ssl_jax.train.parts import Run, Trains
from ssl_jax.workdir import brought, logs
from ssl_jax.workdir.settings import plain
from ssl_jax.workdir.workdir import Workdir

ALL, EARLIER = "all_parts", "earlier_phases"


class Part(NamedTuple):
    name: str
    what: str
    fields: Mapping[str, Any]  # of the configuration, as they are without it


# name -> (what it is, {field of a phase, or of the model: what it is without}).
PARTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "unlabeled_loss": (
        "the loss of unlabeled images",
        {
            f"algorithm.{what}_weight": 0.0
            for what in (
                *("unlabeled", "consistency", "strong", "rotation", "fairness"),
                *("assign", "contrast", "distance", "entropy", "instance", "sequence"),
            )
        },
    ),
    "threshold": ("the confidence threshold", {"algorithm.threshold": 0.0}),
    "strong_views": ("strong augmentation", {"augment.strong": "none"}),
    "weak_views": ("flips, shifts and crops", {"augment.weak": "none"}),
    "mixed_images": (
        "mixup and cutmix",
        {"algorithm.mixup_alpha": 0.0, "algorithm.cutmix_alpha": 0.0},
    ),
    "average": ("the average of weights", {"algorithm.ema_decay": 0.0}),
    "average_warmup": (
        "the warm-up of averages",
        {"algorithm.ema_warmup": False, "model.bn_warmup": False},
    ),
    "weight_decay": ("weight decay", {"optimizer.weight_decay": 0.0}),
    "schedule": (
        "the learning rate's schedule",
        {"optimizer.schedule": "constant", "optimizer.warmup_steps": 0},
    ),
    "dropout": ("dropout", {"model.dropout": 0.0}),
}


def parts(run: Run, asked: Mapping[str, Sequence[str]]) -> list[Part]:
    """The parts that a run has: in the phases that it trains, wherever they have it.

    Args:
      asked: of each phase, the views that its train_step asks for.
    """
    found = []
    for name, (what, off) in PARTS.items():
        fields = {
            f"model.{field}": value
            for group, field, value in _split(off)
            if group == "model" and _differs(run.model.hparams, field, value)
        }
        for section in run.trained.values():
            fields |= _without(run, section, off, asked[section.name])
        if fields:
            found.append(Part(name, what, fields))
    if earlier := _without_earlier(run):
        found.append(Part(EARLIER, "what earlier phases learned", earlier))
    return found


def ablate(
    config: Mapping[str, Any], path: Path, devices: list | None = None
) -> dict | None:
    """Trains the run of `config` in the workdir `path`, unless it is there, and then
    without each of its parts, and without all of them, in folders of it.

    With `config.ablate.seeds` above 1 all that once more with the next seeds.

    Returns:
      What was found, as `AblationFolder.found`; None if a signal stopped it, and the
      same call goes on.

    Raises:
      UserError: as `runs.run`; the run has no such part, or no test accuracy.
    """
    mesh = make_mesh(devices)
    # What the data settle is settled once, for the whole and for what is left of it.
    config, _ = adapted.to_data(config, path, mesh)
    wanted = sections.parse(config, mesh.size)
    _check(wanted)
    result = runs.run(config, path, devices)
    if result is None:
        return None
    if "accuracy" not in result["test"]:
        raise UserError(
            f"{wanted.name} ends without a test accuracy, so that nothing tells what a "
            "part adds: end with a phase that classifies test images."
        )
    chosen = _chosen(wanted, parts(wanted, _asked(wanted, mesh)))
    for part in chosen:
        _parsed(wanted, part, mesh.size)  # or says now what is wrong
    folder = Workdir(path).ablation
    todo = list(_todo(wanted, chosen, path, folder))
    without = "; ".join(part.what for part in chosen)
    left = [part for part, _, where in todo if Workdir(where).result is None]
    minutes = sum(_seconds(result, wanted, part) for part in left) / 60
    logs.say(f"without: {without}: {len(left)} runs, about {minutes:.0f} minutes")
    found = {
        "whole": [_entry(wanted.seed, path, result)],
        "parts": [{**part._asdict(), "runs": []} for part in chosen],
    }
    found = plain(found)
    runs_of = {part["name"]: part["runs"] for part in found["parts"]}
    runs_of[""] = found["whole"]
    folder.write(found)
    for count, (part, seed, where) in enumerate(todo, start=1):
        without = f"without {part.what}" if part.name else "the whole"
        logs.say(f"{count} of {len(todo)}: {without}, seed {seed}, in {where}")
        whole = path if seed == wanted.seed else folder.run("whole", seed)
        its = _config(wanted, part, seed)
        brought.bring(_same(wanted, part), Workdir(whole), Workdir(where), its)
        result = runs.run(its, where, devices)
        if result is None:
            return None
        runs_of[part.name].append(_entry(seed, where, result))
        folder.write(found)
    return found


def _check(run):
    given = {"num_seeds": (run.num_seeds, 1), "query.rounds": (run.query.rounds, 0)}
    for field, (value, usual) in given.items():
        if value != usual:
            raise UserError(
                f"{field}={value}: --mode=ablate trains one run after another; use "
                f"{field}={usual}, and ablate.seeds for more seeds."
            )
    # Which of them the run has is known when it is trained.
    known = (*PARTS, EARLIER)
    for name in run.ablate.parts:
        if name not in known:
            raise UserError(
                f"ablate.parts names {name!r}, which is no part: "
                f"{named.choices(name, known)}"
            )


def _chosen(run, there: Sequence[Part]) -> list[Part]:
    """Those that are asked for, and all of them at once."""
    names = [part.name for part in there]
    if unknown := sorted(set(run.ablate.parts) - set(names)):
        raise UserError(
            f"ablate.parts names {', '.join(map(repr, unknown))}, which {run.name} has "
            f"not; it has: {', '.join(names) or 'none'}."
        )
    chosen = [part for part in there if part.name in (run.ablate.parts or names)]
    if not chosen:
        raise UserError(f"{run.name} has no part that it could do without.")
    if len(chosen) > 1:
        # Other steps than its own the last phase has where earlier ones are left out.
        fields = {k: v for part in chosen for k, v in part.fields.items()}
        kept = fields.get("phases", run.config["phases"])
        gone = {name for name in run.config["phases"] if name not in kept}
        fields = {k: v for k, v in fields.items() if k.split(".")[0] not in gone}
        chosen.append(Part(ALL, "all of these", fields))
    return chosen


def _todo(run, chosen, path, folder) -> Iterator[tuple[Part, int, Path]]:
    """Seed by seed, so that a budget that ends leaves pairs."""
    whole = Part("", "", {})
    for seed in range(run.seed, run.seed + run.ablate.seeds):
        if seed != run.seed:
            yield whole, seed, folder.run("whole", seed)
        for part in chosen:
            yield part, seed, folder.run(part.name, seed)


def _config(run, part: Part, seed: int) -> dict:
    name = f"{run.name}_without_{part.name}" if part.name else run.name
    values = {**part.fields, "seed": seed, "name": name}
    values["policy"] = ""  # whose settings are in it
    return sections.changed(run.config, values)


def _parsed(run, part, num_devices):
    try:
        sections.parse(_config(run, part, run.seed), num_devices)
    except UserError as error:
        raise UserError(
            f"{run.name} cannot do without {part.what}: {error} Name other parts in "
            "ablate.parts."
        ) from error


def _asked(run: Run, mesh: Mesh) -> dict[str, list[str]]:
    """Of each phase, the views that it trains on."""
    data = None
    asked = {}
    for name in run.trained:
        phase, data = phases.prepared(run.config, name, mesh, data)
        asked[name] = pictures.asked_views(phase)
    return asked


def _without(run: Run, section: Trains, off, asked) -> dict[str, Any]:
    """The fields of a phase that are otherwise without the part."""
    groups = {
        "algorithm": section.hparams,
        "augment": section.augment,
        "optimizer": run.config[section.name].get("optimizer", {}),
    }
    fields = {}
    for group, field, value in _split(off):
        there = groups.get(group, {})
        if _differs(there, field, value):
            if group != "augment" or _acts(field, section.augment, asked):
                fields[f"{section.name}.{group}.{field}"] = value
    return fields


def _acts(field, augment, asked):
    """Whether views that are asked for are others by this field of theirs."""
    if field == "strong":
        return "strong" in asked
    shifts = augment["weak"] == "shift" and augment["shift"] > 0
    moves = augment["flip"] or shifts or augment["weak"] == "crop"
    return moves and bool({"weak", "strong"} & set(asked))  # which begins with the weak


def _without_earlier(run: Run) -> dict[str, Any]:
    """The last phase from scratch, which gets the steps of those that nothing needs
    then; nothing where it begins from scratch."""
    *_, last = run.trained.values()
    if last.start_from not in run.trained:
        return {}
    needed = _needed(run, last, {last.labels_from})
    kept = tuple(
        section.name
        for section in run.sections
        if section.name in needed
        or (section.name not in run.trained and section.start_from in needed)
    )
    before = _needed(run, last, {last.labels_from, last.start_from})
    gone = [run.trained[name] for name in before - needed]
    every = last.eval_every * last.steps_per_call
    more = sum(section.steps for section in gone) // every * every
    fields = {f"{last.name}.start_from": "scratch", "phases": kept}
    return fields | ({f"{last.name}.steps": last.steps + more} if more else {})


def _needed(run: Run, last: Trains, sources: set[str]) -> set[str]:
    """The phases that train what `last` is made of, if that has these sources."""
    needed, queue = {last.name}, list(sources)
    while queue:
        section = run.trained.get(queue.pop())  # or another run's, or none
        if section is not None and section.name not in needed:
            needed.add(section.name)
            queue += [section.labels_from, section.start_from]
    return needed


def _split(off: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in off.items():
        group, _, field = name.partition(".")
        yield group, field, value


def _differs(there: Mapping[str, Any], field: str, value: Any) -> bool:
    return field in there and there[field] != value


def _entry(seed, where, result):
    return {
        "seed": seed,
        "accuracy": result["test"]["accuracy"],
        "workdir": str(where),
    }


def _seconds(result, run, part):
    """That a run without the part will take to compile and to train, by those that the
    whole has taken."""
    same = _same(run, part)
    return sum(
        phase.get("seconds", 0) + phase.get("compile_seconds", 0)
        for name, phase in result["phases"].items()
        if name not in same
    )


def _same(run: Run, part: Part) -> list[str]:
    """The phases that are without the part what they are with it; of the whole run,
    whose part has no name, none, as there is nothing to have them from."""
    changed = {field.split(".")[0] for field in part.fields}
    if not part.name or "model" in changed:
        return []
    same = []
    for section in run.sections:
        if changed & {section.name, section.start_from, *_labels_from(section)}:
            changed.add(section.name)
        elif section.name in part.fields.get("phases", run.config["phases"]):
            same.append(section.name)
    return same


def _labels_from(section):
    return [section.labels_from] if isinstance(section, Trains) else []
