"""Runs that stand behind a table: listed, shared out, trained, collected.

An experiment of tables/ says which runs it wants, calls `collect`, and prints a table:

python -m experiments.tables.few_labels --labels=40 --seeds=0 --results=runs/quickstart

One of papers/ is a list of `Run`s, each hours long, and a call of `main`:

python -m experiments.papers.byol_cifar10 --dry_run        # which runs, how many hours
python -m experiments.papers.byol_cifar10 --only=simsiam --seeds=0
python -m experiments.papers.byol_cifar10 --task=1/2       # every second run
python -m experiments.papers.byol_cifar10 --debug          # in minutes, on digits

On a machine with two GPUs, run --task=1/2 with CUDA_VISIBLE_DEVICES=0 and --task=2/2
with CUDA_VISIBLE_DEVICES=1; papers/*.sbatch do the like in a SLURM job array, and so
does --submitit=PARTITION (submitted.py).

Each run is what launch.py would train, in runs/<experiment>/<run>-seed<seed>: what is
finished there is not run again, and what was stopped or failed goes on. Its result is a
line of <results>/<experiment>.jsonl (ssl_jax.workdir.results has the form), in place of
the one with that seed; tables are made of all that lie there. What speed/ measures is a
line of <results>/<experiment>.jsonl as well, named after the device or what was chosen.
Where <results> is experiments/results, as it is by default, the tables in the documents
are written anew (readme.py). Besides, experiments/results/<experiment>/ has figures,
and the journals that figures or tests read, as <run>_metrics.jsonl.
"""

import functools
import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from experiments import command, readme, submitted
from ssl_jax.errors import UserError
from ssl_jax.workdir import results, settings
from ssl_jax.workdir.phase_folder import PhaseFolder
from ssl_jax.workdir.results import Table
from ssl_jax.workdir.workdir import Workdir


class Cell(NamedTuple):
    """One entry of a table."""

    read: Callable[[dict], float]  # the figure in a result.json, as a share
    published: str = ""  # in %, each with its source and length


class Run(NamedTuple):
    """What is trained once for each seed."""

    name: str  # of its workdirs and results, and for --only
    row: str  # of the table; runs may share one
    config: str  # a file in configs/ and its words: "byol_stl10:paper96"
    cells: Mapping[str, Cell]  # by column; none where the experiment has its own form
    hours: float  # of one seed on one GPU: an estimate
    overrides: Mapping[str, object] = MappingProxyType({})  # dotted field -> value
    # "<name>/<phase>" of a run before it in the list: train.start_from, for each seed
    # out of the run with that seed.
    start_from: str = ""


class Job(NamedTuple):
    """A run with one seed."""

    name: str  # <run>-seed<seed>
    run: str
    config: ConfigDict
    command: str  # trains the same without this file
    workdir: Path
    hours: float
    needs: Path | None  # the phase's folder that it starts from


# Runs, and the results of each by its name -> text.
Form = Callable[[Sequence[Run], Table], str]


def main(
    experiment: str,
    tables: Mapping[str, Sequence[Run]],
    gpu: str,
    form: Form,
) -> None:
    """A paper's program: trains what the flags choose, and prints the tables.

    Args:
      tables: caption -> runs, whose names are unique over all tables.
      gpu: what `hours` are estimated for, and from what.
      form: writes one of the tables.
    """
    command.start(
        experiment,
        lambda given: run(experiment, tables, gpu, given, form),
        define_flags,
    )


def define_flags(to: flags.FlagValues) -> None:
    """A paper's."""
    flags.DEFINE_bool("dry_run", False, "print what would be trained, and stop", to)
    flags.DEFINE_list("only", "", "parts of names or rows of runs; default: all", to)
    flags.DEFINE_string("task", "1/1", "i/n: every n-th run, from the i-th", to)
    flags.DEFINE_bool("debug", False, "the configs with :debug, seconds a run", to)
    submitted.define_flags(to)
    command.define_flags(to, seeds="0,1,2")


def run(
    experiment: str,
    tables: Mapping[str, Sequence[Run]],
    gpu: str,
    given: flags.FlagValues,
    form: Form,
) -> None:
    """`main` with its flags parsed."""
    # Debug runs lie beside the real ones, never among them.
    program, experiment = experiment, experiment + "_debug" * given.debug
    try:
        chosen = share(
            jobs(
                experiment,
                choose([run for runs in tables.values() for run in runs], given.only),
                command.parse_seeds(given.seeds),
                data_dir=given.data_dir,
                debug=given.debug,
            ),
            given.task,
        )
    except UserError as error:
        command.fail(experiment, error)
    if given.dry_run:
        print(listing(chosen, gpu))
        return
    if given.submitit:
        names = [job.name if state(job) != "finished" else "" for job in chosen]
        submitted.queue(program, Path("runs") / experiment, names, given)
        return
    path, failed = Path(given.results) / f"{experiment}.jsonl", []
    try:
        for job in chosen:
            print(f"workdir {job.workdir}", flush=True)
            try:
                result = train(job)
            except UserError as error:
                failed.append(job.name)
                print(f"{experiment}: {job.name}: {error}", file=sys.stderr)
                continue
            if result is None:
                print(command.STOPPED)
                return
            _keep(path, job.run, result)
    except KeyboardInterrupt:
        print(command.STOPPED)
        return
    found = results.read_table(path)
    for caption, runs in tables.items():
        try:
            written = form(runs, {run.name: found.get(run.name, []) for run in runs})
        except UserError as error:
            command.fail(experiment, error)
        print(f"{caption}\n\n{written}\n")
    if failed:
        print(f"{experiment}: not finished: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def _keep(path, run, result):
    result["config"]["data"]["dir"] = ""  # this machine's, and changes no result
    results.add_to_table(path, run, result)


def train_phases(config: ConfigDict, workdir: Path) -> dict | None:
    """`ssl_jax.train.run.run`. JAX is imported by what trains: tables do without."""
    return importlib.import_module("ssl_jax.train.run").run(config, workdir)


def collect(
    experiment: str,
    given: flags.FlagValues,
    chosen: Iterable[tuple[str, ConfigDict]],
    *,
    train: Callable[[ConfigDict, Path], dict | None] | None = None,
    shown: Callable[[str, Path, Path], None] = lambda run, workdir, folder: None,
) -> dict[str, list[dict]] | None:
    """Trains what is left of an experiment's runs.

    Args:
      given: `command.define_flags`.
      chosen: run's name and its config, with its seed.
      train: by default, as launch.py.
      shown: called with a run's name, its workdir and <results>/<experiment>: copies
        what is shown of it.

    Returns:
      All of the experiment's results that there are, or None if a signal stopped it.

    Raises:
      UserError: a run's.
    """
    path, chosen = Path(given.results) / f"{experiment}.jsonl", list(chosen)
    # Which imports JAX, as what trains does: tables do without.
    process = importlib.import_module("ssl_jax.cli.process")
    process.set_up(*(config for _, config in chosen))
    for run, config in chosen:
        folder = workdir(experiment, run, config.seed)
        print(f"workdir {folder}", flush=True)
        config.data.dir = given.data_dir
        result = (train or train_phases)(config, folder)
        if result is None:
            print(command.STOPPED)
            return None
        _keep(path, run, result)
        shown(run, folder, path.with_suffix(""))
    return results.read_table(path)


def workdir(experiment: str, run: str, seed: int) -> Path:
    """Where `collect` trains a run."""
    return Path("runs") / experiment / f"{run}-seed{seed}"


def show(given: flags.FlagValues, table: str) -> None:
    """Prints it, and where the results are the committed ones, fills the documents."""
    print(table)
    if Path(given.results).resolve() == readme.RESULTS.resolve():
        readme.fill()


def keep(
    experiment: str, name: str, measured: dict, folder: Path = readme.RESULTS
) -> None:
    """Prints what an experiment of speed/ measured, and under a name keeps it as a line
    of its results."""
    print(json.dumps(measured, indent=1))
    if name:
        results.add_to_table(folder / f"{experiment}.jsonl", name, measured)
        if folder.resolve() == readme.RESULTS.resolve():
            readme.fill()


def choose(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """The runs with one of the strings `only` in their name or row; without any, all.

    Raises:
      UserError: one of them is in none.
    """
    known = {run.name: f"{run.name}\n{run.row}" for run in runs}
    for part in only:
        if not any(part in words for words in known.values()):
            raise UserError(
                f"--only={','.join(only)}: no run has {part!r} in its name or row; "
                f"the names are: {', '.join(known)}."
            )
    wanted = only or [""]
    return [run for run in runs if any(part in known[run.name] for part in wanted)]


def share(chosen: Sequence[Job], task: str) -> list[Job]:
    """The jobs of task "i/n": every n-th, beginning with the i-th.

    Raises:
      UserError: it is not written so, or i is not 1 to n.
    """
    i, _, n = task.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise UserError(
            f"--task={task} must be i/n with i from 1 to n: the halves of the list are "
            "1/2 and 2/2."
        )
    return list(chosen[int(i) - 1 :: int(n)])


def jobs(
    experiment: str,
    runs: Sequence[Run],
    seeds: Sequence[int],
    *,
    data_dir: str = "",
    debug: bool = False,
) -> list[Job]:
    """Every run with every seed, the first run's first."""
    folder = Path("runs") / experiment
    return [_job(run, seed, folder, data_dir, debug) for run in runs for seed in seeds]


def _job(run, seed, folder, data_dir, debug):
    argument = _with_debug(run.config) if debug else run.config
    values, needs = dict(run.overrides), None
    if debug:  # what it has made small stays so
        whole, small = load(run.config), load(argument)
        # Another network has other fields, and takes no file's weights.
        values = {f: v for f, v in values.items() if not f.startswith("model.")}
        values = {f: v for f, v in values.items() if _at(whole, f) == _at(small, f)}
    values["seed"] = seed
    if run.start_from:
        name, phase = run.start_from.split("/")
        needs = folder / f"{name}-seed{seed}" / phase
        values["train.start_from"] = str(needs)
    if data_dir:
        values["data.dir"] = data_dir
    file, *words = argument.split(":")
    workdir = folder / f"{run.name}-seed{seed}"
    given = [
        f"--config={':'.join([f'configs/{file}.py', *words])}",
        *(f"--config.{field}={_written(value)}" for field, value in values.items()),
        f"--workdir={workdir}",
    ]
    return Job(
        name=workdir.name,
        run=run.name,
        config=load(argument, values),
        command=shlex.join(["python", "launch.py", *given]),
        workdir=workdir,
        hours=0.0 if debug else run.hours,
        needs=needs,
    )


def _with_debug(argument):
    return f"{argument}{',' if ':' in argument else ':'}debug"


def load(
    argument: str, overrides: Mapping[str, object] = MappingProxyType({})
) -> ConfigDict:
    """The config that launch.py takes as --config=configs/<file>.py:<words>, here
    "<file>:<words>", with other values in dotted fields."""
    name, _, words = argument.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(words)
    config.lock()  # a field that it does not have is an error
    config.update_from_flattened_dict(overrides)
    return config


def _at(config, field):
    return functools.reduce(getattr, field.split("."), config)


def _written(value):
    """As a flag takes it."""
    return repr(value).replace("'", '"') if isinstance(value, tuple) else str(value)


def state(job: Job) -> str:
    """ "finished", "to resume", "new", or "needs <another job>".

    Raises:
      UserError: its workdir belongs to another configuration.
    """
    workdir = Workdir(job.workdir)
    workdir.check(job.config.to_dict())
    if workdir.result is not None:
        return "finished"
    if job.needs and PhaseFolder(job.needs).done is None:
        return f"needs {job.needs.parent.name}"
    return "new" if settings.saved(job.workdir) is None else "to resume"


def train(job: Job) -> dict | None:
    """Its result.json, or None if a signal stopped it; trains what is left of it.

    Raises:
      UserError: by `state` and `train.run`; or the job that it needs is not finished.
    """
    now = state(job)
    if now == "finished":  # even where what it started from is gone
        return Workdir(job.workdir).result
    if now.startswith("needs"):
        raise UserError(
            f"{now}, whose {job.needs} is not finished: run that, then this again."
        )
    return train_phases(job.config, job.workdir)


def listing(chosen: Sequence[Job], gpu: str) -> str:
    """Every job with its state, estimated hours and command, and their sum."""
    lines, left = [], 0.0
    for job in chosen:
        try:
            now = state(job)
        except UserError as error:
            now = f"refused: {error}"
        left += job.hours if now != "finished" else 0.0
        lines.append(f"{job.name}: {job.hours:.2f} h, {now}\n  {job.command}")
    hours = sum(job.hours for job in chosen)
    total = f"{len(chosen)} runs, {hours:.1f} h, of which {left:.1f} h are not finished"
    return "\n".join([*lines, f"{total}: estimates, for {gpu}"])
