"""The runs of a paper's table: listed, trained one after another, and made a table.

An experiment is a list of `Run`s and a call of `main`, such as byol_cifar10.py:

python -m experiments.byol_cifar10 --dry_run        # which runs, and how many hours
python -m experiments.byol_cifar10 --only=simsiam --seeds=0
python -m experiments.byol_cifar10 --task=1/2       # every second run, from the first
python -m experiments.byol_cifar10 --debug          # all of it in minutes, on digits

On a machine with two GPUs, run --task=1/2 with CUDA_VISIBLE_DEVICES=0 and --task=2/2
with CUDA_VISIBLE_DEVICES=1; byol_cifar10.sbatch does the like in a SLURM job array.

Each run is what launch.py would train, in runs/<experiment>/<run>-seed<seed>: what is
finished there is not run again, and what was stopped or failed goes on. The result.json
files go to <results>/<experiment>/, and the table is made of all that lie there.
"""

import functools
import importlib
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from absl import app, flags, logging
from ml_collections import ConfigDict

from ssl_jax.errors import UserError
from ssl_jax.report import formats
from ssl_jax.train.run import run as train_phases
from ssl_jax.workdir import workdirs
from ssl_jax.workdir.files import write_json

STOPPED = "stopped; the same command goes on from the last checkpoint, if any"


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

    name: str
    config: ConfigDict
    command: str  # trains the same without this file
    workdir: Path
    hours: float
    needs: Path | None  # the phase's folder that it starts from


# Runs, and the results of each by its name -> text.
Form = Callable[[Sequence[Run], Mapping[str, Sequence[dict]]], str]


def main(
    experiment: str,
    tables: Mapping[str, Sequence[Run]],
    gpu: str,
    form: Form | None = None,
) -> None:
    """The program: trains what the flags choose, and prints the tables.

    Args:
      tables: caption -> runs, whose names are unique over all tables.
      gpu: what `hours` are estimated for, and from what.
      form: writes one of the tables; by default `table`.
    """
    given = flags.FLAGS
    define_flags(given)
    for flag in given.get_flags_for_module(__name__):  # so that --help has them
        given.register_key_flag_for_module(sys.argv[0], flag)
    # SIGTERM is Ctrl-C; loop.run takes both while it trains.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app.run(
        lambda _: run(experiment, tables, gpu, given, form),
        flags_parser=lambda argv: parse(experiment, argv, given),
    )


def define_flags(to: flags.FlagValues) -> None:
    """Not at import, where they would meet other experiments' of the same names."""
    flags.DEFINE_bool("dry_run", False, "print what would be trained, and stop", to)
    flags.DEFINE_list("only", "", "parts of names or rows of runs; default: all", to)
    flags.DEFINE_list("seeds", "0,1,2", "seeds to run", to)
    flags.DEFINE_string("task", "1/1", "i/n: every n-th run, from the i-th", to)
    flags.DEFINE_string("data_dir", "", "as config.data.dir", to)
    flags.DEFINE_string("results", "experiments/results", "for result.json files", to)
    flags.DEFINE_bool("debug", False, "the configs with :debug, seconds a run", to)


def parse(experiment: str, argv: list[str], given: flags.FlagValues) -> list[str]:
    """Parses `argv` into `given`; a mistake is told in one message, status 2."""
    try:
        rest = given(argv)
    except flags.Error as error:
        _fail(experiment, error)
    if len(rest) > 1:
        _fail(experiment, f"{rest[1]!r} is no flag; flags are written --name=value.")
    return rest


def _fail(experiment, error):
    print(f"{experiment}: {error}", file=sys.stderr)
    sys.exit(2)


def run(
    experiment: str,
    tables: Mapping[str, Sequence[Run]],
    gpu: str,
    given: flags.FlagValues,
    form: Form | None = None,
) -> None:
    """`main` with its flags parsed."""
    logging.set_verbosity(logging.WARNING)
    # Debug runs lie beside the real ones, never among them.
    experiment = f"{experiment}_debug" if given.debug else experiment
    try:
        chosen = share(
            jobs(
                experiment,
                choose([run for runs in tables.values() for run in runs], given.only),
                parse_seeds(given.seeds),
                data_dir=given.data_dir,
                debug=given.debug,
            ),
            given.task,
        )
    except UserError as error:
        _fail(experiment, error)
    if given.dry_run:
        print(listing(chosen, gpu))
        return
    folder, failed = Path(given.results) / experiment, []
    folder.mkdir(parents=True, exist_ok=True)
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
                print(STOPPED)
                return
            result["config"]["data"]["dir"] = ""  # changes no result
            write_json(folder / f"{job.name}.json", result)
    except KeyboardInterrupt:
        print(STOPPED)
        return
    for caption, runs in tables.items():
        try:
            written = (form or table)(runs, read(folder, runs))
        except UserError as error:
            _fail(experiment, error)
        print(f"{caption}\n\n{written}\n")
    if failed:
        print(f"{experiment}: not finished: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


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


def parse_seeds(seeds: Sequence[str]) -> list[int]:
    """The numbers.

    Raises:
      UserError: they are not one or more whole numbers, each once.
    """
    numbers = [int(seed) for seed in seeds if seed.isdecimal()]
    if not seeds or len(set(numbers)) < len(seeds):
        raise UserError(
            f"--seeds={','.join(seeds)} must be whole numbers, each once, as in "
            "--seeds=0,1,2."
        )
    return numbers


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
        whole, small = _load(run.config), _load(argument)
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
    command = [
        f"--config={':'.join([f'configs/{file}.py', *words])}",
        *(f"--config.{field}={_written(value)}" for field, value in values.items()),
        f"--workdir={workdir}",
    ]
    return Job(
        name=workdir.name,
        config=_load(argument, values),
        command=shlex.join(["python", "launch.py", *command]),
        workdir=workdir,
        hours=0.0 if debug else run.hours,
        needs=needs,
    )


def _with_debug(argument):
    return f"{argument}{',' if ':' in argument else ':'}debug"


def _load(argument, values=MappingProxyType({})):
    name, _, words = argument.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(words)
    config.lock()  # a field that it does not have is an error
    config.update_from_flattened_dict(values)
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
    workdirs.check(job.workdir, job.config)
    if workdirs.finished(job.workdir, job.config):
        return "finished"
    if job.needs and not (job.needs / "done.json").exists():
        return f"needs {job.needs.parent.name}"
    return "to resume" if (job.workdir / "config.json").exists() else "new"


def train(job: Job) -> dict | None:
    """Its result.json, or None if a signal stopped it; trains what is left of it.

    Raises:
      UserError: by `state` and `loop.run`; or the job that it needs is not finished.
    """
    now = state(job)
    if now == "finished":  # even where what it started from is gone
        return workdirs.finished(job.workdir, job.config)
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


def read(folder: Path, runs: Sequence[Run]) -> dict[str, list[dict]]:
    """Run's name -> the results of its seeds in `folder`."""
    return {
        run.name: [
            json.loads(path.read_text())
            for path in sorted(folder.glob(f"{run.name}-seed*.json"))
        ]
        for run in runs
    }


def table(runs: Sequence[Run], results: Mapping[str, Sequence[dict]]) -> str:
    """Markdown: in %, mean ± std (seeds), and beside it what was published.

    Steps are those of the shortest seed, summed over its phases. Next to runs of fewer
    steps than their configuration has, nothing published is shown.
    """
    header, rows = [""], {run.row: [run.row] for run in runs}
    for column in dict.fromkeys(column for run in runs for column in run.cells):
        ours, published = dict.fromkeys(rows, ""), dict.fromkeys(rows, "")
        for run in runs:
            if column in run.cells:
                cell, found = run.cells[column], results[run.name]
                if found:
                    ours[run.row] = formats.mean_std(map(cell.read, found))
                if not found or min(map(_steps, found)) >= _planned(run):
                    published[run.row] = cell.published
        shown = {column: ours, "published": published}
        for name, entries in shown.items():
            if name == column or any(entries.values()):
                header.append(name)
                for row, line in rows.items():
                    line.append(entries[row])
    for row, line in rows.items():
        of_row = [run for run in runs if run.row == row]
        line.append(
            ", ".join(dict.fromkeys(_progress(r, results[r.name]) for r in of_row))
        )
    return formats.markdown_table([*header, "steps"], list(rows.values()))


def _progress(run, found):
    done, planned = min(map(_steps, found), default=0), _planned(run)
    return f"{done:,}" if done >= planned else f"{done:,} of {planned:,}"


def _steps(result):
    return sum(phase.get("steps", 0) for phase in result["phases"].values())


def _planned(run):
    config = _load(run.config, run.overrides)
    return sum(config[n].steps for n in config.phases if "algorithm" in config[n])
