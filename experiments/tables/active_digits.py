"""Five questions a round by each strategy, against five at random: two tables.

python -m experiments.tables.active_digits [--strategies=entropy,random]
    [--seeds=0,1,...,9]

The runs are <setting>-<strategy>, each a simulation by configs/active_digits.py, or its
word "drawn"; see jobs.py. Of a result, what the tables are made of is kept; learning
curves go to <results>/active_digits/. Strategies that share a seed share its images,
labels and first round; the example's images are the same for every seed, and there only
random questions differ.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats
from ssl_jax.report.figures import active
from ssl_jax.workdir.files import write_figure
from ssl_jax.workdir.results import Table

BASELINE = "random"
SETTINGS = {"example": "the example's 330 images", "drawn": "330 drawn by the seed"}
KINDS = ("images still unlabeled", "test images")


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_list("strategies", "", "those to run; default: all", to)
    command.define_flags(to, seeds="0,1,2,3,4,5,6,7,8,9")


def main(given: flags.FlagValues) -> None:
    results = jobs.collect("active_digits", given, chosen(given), train=simulate)
    if results is not None:
        draw(results, Path(given.results) / "active_digits")
        jobs.show(given, table(results))


def chosen(given: flags.FlagValues) -> Iterator[tuple[str, ConfigDict]]:
    """(run, config).

    Raises:
      UserError: there is no such strategy.
    """
    strategies = importlib.import_module("ssl_jax.active.strategies")
    rules = importlib.import_module("ssl_jax.train.rules")
    wanted = given.strategies or [*rules.STRATEGIES]
    for strategy in wanted:
        strategies.check(strategy, size=1)
    for setting in SETTINGS:
        for seed in command.parse_seeds(given.seeds):
            for strategy in wanted:
                yield f"{setting}-{strategy}", configure(setting, strategy, seed)


def simulate(config: ConfigDict, workdir: Path) -> dict | None:
    """`rounds.simulate`, without what is there for each image and class."""
    rounds = importlib.import_module("ssl_jax.active.rounds")  # and JAX, here only
    result = rounds.simulate(config, workdir)
    if result is None:
        return None
    kept = ("labels", "unlabeled", "accuracy", "test")
    return result | {"rounds": [{k: one[k] for k in kept} for one in result["rounds"]]}


def draw(results: Table, folder: Path) -> None:
    """Learning curves of each setting, as <setting>_strategies.png."""
    for setting, said in SETTINGS.items():
        if found := of_setting(setting, results):
            curves = active.strategy_curves(
                accuracies(found),
                [entry["labels"] for entry in found[0]["rounds"]],
                f"digits by label spreading, {said}: mean ± std over seeds",
            )
            write_figure(folder / f"{setting}_strategies.png", curves)


def table(results: Table) -> str:
    """One for each setting that there are results of."""
    parts = []
    for setting, said in SETTINGS.items():
        if found := of_setting(setting, results):
            parts.append(f"{said[0].upper()}{said[1:]}. {of_strategies(found)}")
    return "\n\n".join(parts)


def of_setting(setting: str, results: Table) -> list[dict]:
    found = [result for runs in results.values() for result in runs]
    return [result for result in found if setting_of(result) == setting]


def setting_of(result: dict) -> str:
    return "drawn" if result["name"] == "active_digits_drawn" else "example"


def configure(setting: str, strategy: str, seed: int) -> ConfigDict:
    values = {"seed": seed, "tensorboard": False, "query.strategy": strategy}
    word = ":drawn" if setting == "drawn" else ""
    return jobs.load(f"active_digits{word}", values)


def accuracies(results: list[dict]) -> dict[str, dict[str, np.ndarray]]:
    """Kind of accuracy -> strategy -> accuracy_SR, of seeds, ascending, and rounds."""
    found = {kind: {} for kind in KINDS}
    for result in sorted(results, key=lambda result: result["seed"]):
        strategy, rounds = result["config"]["query"]["strategy"], result["rounds"]
        for kind, values in zip(
            KINDS,
            (
                [entry["accuracy"] for entry in rounds],
                [entry["test"]["accuracy"] for entry in rounds],
            ),
            strict=True,
        ):
            found[kind].setdefault(strategy, []).append(values)
    return {
        kind: {name: np.array(values) for name, values in sorted(of_kind.items())}
        for kind, of_kind in found.items()
    }


def of_strategies(results: list[dict]) -> str:
    """Accuracy in the last round, and by how many points it beats random questions of
    the same seeds."""
    curves = accuracies(results)
    seeds_of = {}
    for result in results:
        strategy = result["config"]["query"]["strategy"]
        seeds_of.setdefault(strategy, set()).add(result["seed"])
    ranked = sorted(
        curves[KINDS[0]], key=lambda name: -curves[KINDS[0]][name][:, -1].mean()
    )
    lines = []
    for strategy in ranked:
        line = [strategy.replace("_", " ")]
        for kind in KINDS:
            last_S = curves[kind][strategy][:, -1]
            gap = ""
            # Paired: the seeds differ more among themselves than the strategies.
            if strategy != BASELINE and seeds_of[strategy] == seeds_of.get(BASELINE):
                gap = formats.mean_std(last_S - curves[kind][BASELINE][:, -1])
            line += [formats.mean_std(last_S), gap]
        lines.append(line)
    first, last = results[0]["rounds"][0], results[0]["rounds"][-1]
    start = [formats.mean_std(next(iter(curves[k].values()))[:, 0]) for k in KINDS]
    caption = (
        f"Label spreading, {first['labels']} labels at first and "
        f"{last['labels']} in round {len(results[0]['rounds'])}: accuracy in % then, "
        "mean ± std (seeds), and points above random questions of the same seeds. "
        f"Before the first question: {start[0]} on images still unlabeled, {start[1]} "
        "on test images. Images still unlabeled get easier as hard ones are asked "
        "about; the test images stay the same:"
    )
    header = ["questions by"]
    for kind in KINDS:
        header += [kind, f"above {BASELINE}"]
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


if __name__ == "__main__":
    command.start("active_digits", main, define_flags)
