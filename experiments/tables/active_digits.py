"""Five questions a round by each strategy, against five at random: README's tables.

python -m experiments.active_digits [--strategies=entropy,random] [--seeds=0,1,...,9]

Each simulation is what launch.py would do with configs/active_digits.py, or with its
word "drawn", in runs/active_digits/<setting>-<strategy>-seed<seed>; what is finished
there is not run again. What the tables are made of goes to
experiments/results/active_digits/, with the learning curves, the tables to the terminal
and, where the results are the committed ones, to README.md. Strategies that share a
seed share its images, labels and first round; the example's images are the same for
every seed, and there only random questions differ.
"""

import sys
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from configs import active_digits
from experiments import runs
from ssl_jax.active import rounds, strategies
from ssl_jax.errors import UserError
from ssl_jax.report import formats
from ssl_jax.report.figures import active, drawing
from ssl_jax.workdir.files import write_json

COMMITTED = Path("experiments/results/active_digits")
BASELINE = "random"
SETTINGS = {"example": "the example's 330 images", "drawn": "330 drawn by the seed"}
KINDS = ("images still unlabeled", "test images")

CHOSEN = flags.DEFINE_list("strategies", [*strategies.STRATEGIES], "those to run")


def main(_):
    logging.set_verbosity(logging.WARNING)
    try:
        run(CHOSEN.value, Path(runs.RESULTS.value or COMMITTED))
    except UserError as error:
        print(f"active_digits: {error}", file=sys.stderr)
        sys.exit(2)


def run(chosen: list[str], folder: Path) -> None:
    """Simulates what is left of these strategies, and shows all that `folder` has."""
    for strategy in chosen:
        strategies.check(strategy, size=1)
    folder.mkdir(parents=True, exist_ok=True)
    for setting in SETTINGS:
        for seed in runs.seeds():
            for strategy in chosen:
                name = f"{setting}-{strategy}-seed{seed}"
                workdir = Path("runs/active_digits") / name
                print(f"workdir {workdir}", flush=True)
                config = configure(setting, strategy, seed)
                result = rounds.simulate(config, workdir)
                if result is None:
                    return  # stopped by a signal; the same command goes on
                write_json(folder / f"{name}.json", brief(result))
    results = runs.read(folder)
    draw(results, folder)
    print(tables(results))
    if folder == COMMITTED:
        formats.into_readme("active_digits", tables(results))


def draw(results: list[dict], folder: Path) -> None:
    """Learning curves of each setting, as <setting>_strategies.png."""
    for setting, said in SETTINGS.items():
        of_setting = [r for r in results if setting_of(r) == setting]
        if of_setting:
            curves = active.strategy_curves(
                accuracies(of_setting),
                [entry["labels"] for entry in of_setting[0]["rounds"]],
                f"digits by label spreading, {said}: mean ± std over seeds",
            )
            drawing.save(curves, folder / setting, "strategies")


def tables(results: list[dict]) -> str:
    """A table for each setting that there are results of."""
    parts = []
    for setting, said in SETTINGS.items():
        of_setting = [r for r in results if setting_of(r) == setting]
        if of_setting:
            parts.append(f"{said[0].upper()}{said[1:]}. {table(of_setting)}")
    return "\n\n".join(parts)


def setting_of(result: dict) -> str:
    return "drawn" if result["name"] == "active_digits_drawn" else "example"


def configure(setting: str, strategy: str, seed: int) -> ConfigDict:
    config = active_digits.get_config("drawn" if setting == "drawn" else "")
    config.seed, config.tensorboard = seed, False
    config.query.strategy = strategy
    return config


def brief(result: dict) -> dict:
    """The result without what is there for each image and class."""
    kept = ("labels", "unlabeled", "accuracy", "test")
    rounds = [{key: entry[key] for key in kept} for entry in result["rounds"]]
    return result | {"rounds": rounds}


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


def table(results: list[dict]) -> str:
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
    flags.set_default(runs.SEEDS, [str(seed) for seed in range(10)])
    app.run(main)
