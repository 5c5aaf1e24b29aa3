"""The two-phase tutorial on CIFAR-10: a table.

python -m experiments.tables.two_phase_cifar10 --data_dir=... --seeds=2,3,4
    [--kind=two_phase] [--side=64] [--policy=cifar10_small]

The runs are configs/two_phase_cifar10.py and its words: "baseline", the tutorial's;
"two_phase"; and "supervised", the same without unlabeled images. By default at 32
pixels and with the config's settings; those at 64 are called "two_phase_64px" and so
on, those with what --mode=tune has found "two_phase_learned". A first phase that
another run has had is not trained again: "supervised" goes on from that of the
two_phase run of its seed, and a learned one whose first phase is as the config has it
from that of the config's own; its steps and seconds are added here. See jobs.py.
"""

import importlib
import itertools

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.errors import UserError
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

WORDS = {"baseline": "baseline", "supervised": "supervised", "two_phase": ""}
NAMES = {
    "baseline": "baseline: 30 epochs, mirrored images",
    "supervised": "the same two phases, labels alone",
    "two_phase": "two phases",
}
SIDES = {"32": "", "64": "64px"}
PUBLISHED = {"baseline": "43.66", "two_phase": "55.89"}  # the tutorial's, one run each


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_multi_enum("kind", list(WORDS), list(WORDS), "which to run", to)
    flags.DEFINE_multi_enum("side", ["32"], list(SIDES), "pixels", to)
    flags.DEFINE_string("policy", "", "settings, as config.policy", to)
    command.define_flags(to)


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = (
        (
            name(kind, side, learned=bool(given.policy)),
            configure(kind, side, seed, given.policy),
        )
        for side in given.side
        for seed in seeds
        for kind in given.kind
    )
    results = jobs.collect("two_phase_cifar10", given, chosen)
    if results is not None:
        jobs.show(given, table(results))


def name(kind: str, side: str, *, learned: bool = False) -> str:
    return "_".join(filter(None, (kind, SIDES[side], "learned" * learned)))


def configure(kind: str, side: str, seed: int, policy: str = "") -> ConfigDict:
    config = _loaded(kind, side, seed)
    if policy:
        lay_over(config, kind, policy)
    first = _first_of(side, seed, policy)
    if kind == "supervised" or (
        kind == "two_phase" and first != name(kind, side, learned=bool(policy))
    ):
        workdir = jobs.workdir("two_phase_cifar10", first, seed)
        config.phases = ("semi_supervised",)
        config.semi_supervised.start_from = str(workdir / "supervised")
    return config


def _loaded(kind, side, seed):
    words = ",".join(filter(None, (WORDS[kind], SIDES[side])))
    config = f"two_phase_cifar10:{words}" if words else "two_phase_cifar10"
    return jobs.load(config, {"seed": seed, "tensorboard": False})


def _first_of(side, seed, policy):
    """The run that has the first phase."""
    own = _loaded("two_phase", side, seed)
    learned = _loaded("two_phase", side, seed)
    if policy:
        lay_over(learned, "two_phase", policy)
    changed = (learned.supervised, learned.model) != (own.supervised, own.model)
    return name("two_phase", side, learned=changed)


def lay_over(config: ConfigDict, kind: str, policy: str) -> None:
    """Puts what was learned in the config: of "supervised", whose second phase has
    another method and no unlabeled image, what that has of it, and as many labeled
    images a step as take as long.

    Raises:
      UserError: there is no such policy; or it is of "baseline", which has no phases.
    """
    # Which import JAX, as what trains does.
    policies, files, tutorial = map(
        importlib.import_module,
        ("ssl_jax.cli.policies", "ssl_jax.workdir.policy", "configs.two_phase_cifar10"),
    )
    if kind == "baseline":
        raise UserError("--policy is of two phases: give --kind=two_phase as well.")
    path = policies.find(policy)
    if kind == "two_phase":
        return policies.lay_over(config, path)
    second = config.semi_supervised
    own, batch = second.algorithm.name, {"batch_size": 32, "unlabeled_ratio": 2}
    for field, value in files.read(path).settings.items():
        phase, _, rest = field.partition(".")
        section, _, last = rest.rpartition(".")
        if phase != "semi_supervised":
            continue
        if rest in batch:
            batch[rest] = value
        elif last in (at := second[section] if section else second):
            at[last] = value
    second.algorithm.name = own
    second.batch_size = tutorial.as_long(**batch)


def table(results: Table) -> str:
    if not results:
        return "Not measured yet."
    rows = []
    for side, learned in itertools.product(SIDES, (False, True)):
        runs = {
            kind: results.get(name(kind, side, learned=learned), []) for kind in WORDS
        }
        ours = _by_seed(runs["two_phase"])
        beside = [*runs["two_phase"], *results.get(name("two_phase", side), [])]
        firsts = [each for each in beside if "supervised" in each["phases"]]
        gaps = tables.paired_by_seed(
            {k: (ours, _by_seed(v)) for k, v in runs.items() if k != "two_phase"}
        )
        for kind, found in runs.items():
            if not found:
                continue
            accuracy, gap = _by_seed(found), ""
            if kind in gaps:
                points, p = gaps[kind]
                gap = formats.mean_std(points)
                gap += "" if p is None else f", p {formats.p_value(p)}"
            phases = [_phases(result, firsts) for result in found]
            steps = [sum(phase["steps"] for phase in run) for run in phases]
            low, high = min(steps), max(steps)
            published = side == "32" and not learned
            rows.append(
                [
                    NAMES[kind] + ", learned settings" * learned,
                    side,
                    PUBLISHED.get(kind, "") if published else "",
                    formats.mean_std(list(accuracy.values())),
                    gap,
                    f"{low:,}" if low == high else f"{low:,} to {high:,}",
                    f"{max(map(tables.seconds, phases)) / 60:.0f}",
                ]
            )
    caption = (
        "5,000 labels of CIFAR-10 and 20,000 images without, MobileNet: accuracy in % "
        "on the 10,000 test images at the last step, mean ± std (seeds), and points "
        "that the two phases are above, with the p-value of the paired t-test, "
        "corrected by Holm over the rows beside them; minutes with compiling:"
    )
    header = ["", "side, px", "published", "ours", "two phases are above by", "steps"]
    header += ["minutes, slowest"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def _phases(result, firsts):
    """Of a run, and the first one that it goes on from."""
    ended = dict(result["phases"])
    if list(ended) == ["semi_supervised"]:
        first = next(each for each in firsts if each["seed"] == result["seed"])
        ended["supervised"] = first["phases"]["supervised"]
    return list(ended.values())


def _by_seed(found: list[dict]) -> dict[int, float]:
    return {result["seed"]: result["test"]["accuracy"] for result in found}


if __name__ == "__main__":
    command.start("two_phase_cifar10", main, define_flags)
