"""Is a run that was killed again and again the run that was never stopped?

python -m experiments.speed.kill_resume --kills=10 [--signal=TERM]
    [--config.field=value ...]

Trains once undisturbed and once with kills, through launch.py in processes of its own:
at random moments (start-up among them), and then one each in the middle of a save,
while figures are drawn, and between a phase's end and result.json. Every number of the
last checkpoint must be the same bit for bit, and so must the journal and result.json
but for times and `resumed`. Prints a report, keeps it as a line of
experiments/results/kill_resume.jsonl, "kill" or "term", and exits with status 1 if
anything differs.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from experiments import jobs, readme
from ssl_jax.workdir.checkpoints import Checkpoints, checksum
from ssl_jax.workdir.journal import Journal

ROOT = Path(__file__).parents[2]
CONFIG = "configs/digits.py:debug"
# Enough steps that most kills land in the middle of training.
STEPS = {"steps": 2400, "log_every": 10, "eval_every": 50, "checkpoint_every": 20}
# And "git": someone may edit or commit in between.
TIMES = ("seconds", "compile_seconds", "images_per_second", "resumed", "git")


def launch(workdir: Path, flags: list[str]) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "launch.py"), f"--workdir={workdir}", *flags]
    output = (workdir.parent / f"{workdir.name}.log").open("a")
    with output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)


def finish(workdir: Path, flags: list[str]) -> float:
    """Lets a run go on to its end; returns its seconds.

    Raises:
      RuntimeError: it failed; the message has the end of what it said.
    """
    began = time.monotonic()
    if launch(workdir, flags).wait():
        said = (workdir.parent / f"{workdir.name}.log").read_text()
        raise RuntimeError(f"launch.py failed:\n{said[-2000:]}")
    return time.monotonic() - began


def kill(
    workdir: Path, flags: list[str], sign: signal.Signals, now: Callable[[float], bool]
) -> dict | None:
    """Launches, and sends `sign` when `now(seconds since launch)`.

    Returns:
      The seconds, the exit status, and the rows and checkpoints then on disk; None if
      the run was over before.
    """
    process = launch(workdir, flags)
    began = time.monotonic()
    while process.poll() is None and not now(time.monotonic() - began):
        time.sleep(0.0005)
    process.send_signal(sign)
    seconds, status = time.monotonic() - began, process.wait()
    if status == 0 and (workdir / "result.json").exists():
        return None
    # 0: SIGTERM taken while training; negative: died of it, SIGTERM at start-up too.
    if status not in (0, -sign):
        said = (workdir.parent / f"{workdir.name}.log").read_text()
        raise RuntimeError(f"launch.py ended with {status}:\n{said[-2000:]}")
    rows = Journal(workdir / "metrics.jsonl").rows()
    return {
        "seconds": round(seconds, 2),
        "status": status,
        "step": rows[-1]["step"] if rows else 0,
    }


def moment(
    name: str, workdir: Path, startup: float, training: float, rng: random.Random
) -> Callable[[float], bool]:
    """When to `kill` the process launched next.

    Args:
      name: "start-up": within the first `startup` seconds; "training": within
        `training` seconds of its beginning; "save": as soon as a checkpoint is being
        written; "figures": as soon as the first of a phase's end is; "done": as soon as
        a phase is over.
    """

    def new(pattern):
        before = {(path, path.stat().st_ino) for path in workdir.glob(pattern)}
        return lambda: {(path, _inode(path)) for path in workdir.glob(pattern)} - before

    if name in ("start-up", "training"):
        seconds = rng.uniform(0, startup if name == "start-up" else training)
        # Training begins when the journal is cut back, and so written anew.
        begun = (lambda: True) if name == "start-up" else new("metrics.jsonl")
        since = []

        def after(passed):
            if not since and begun():
                since.append(passed if name == "training" else 0)
            return bool(since) and passed >= since[0] + seconds

        return after
    pattern = {
        "save": "*/checkpoints/*-tmp",
        "figures": "figures/*_learning_curves.png",
        "done": "*/done.json*",
    }[name]
    appeared = new(pattern)
    return lambda _: bool(appeared())


def _inode(path):
    try:
        return path.stat().st_ino
    except FileNotFoundError:  # renamed since it was listed
        return 0


def compare(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs, but for times."""
    differences = []
    results = [json.loads((w / "result.json").read_text()) for w in (one, other)]
    if _timeless(results[0]) != _timeless(results[1]):
        differences.append("result.json")
    rows = [Journal(w / "metrics.jsonl").rows() for w in (one, other)]
    if _timeless(rows[0]) != _timeless(rows[1]):
        differences.append("metrics.jsonl")
    for phase in results[0]["phases"]:
        sums = []
        for workdir in (one, other):
            with Checkpoints(workdir / phase / "checkpoints") as checkpoints:
                sums.append((checkpoints.steps[-1], checksum(checkpoints.newest()[1])))
        if sums[0] != sums[1]:
            differences.append(f"last checkpoint of {phase}")
    return differences


def _timeless(tree):
    if isinstance(tree, dict):
        return {k: _timeless(v) for k, v in tree.items() if k not in TIMES}
    return [_timeless(v) for v in tree] if isinstance(tree, list) else tree


def kill_resume(
    folder: Path, flags: list[str], plan: list[tuple[str, signal.Signals]], seed: int
) -> dict:
    """The report, from runs in `folder`; `plan` has the kills, as (moment, signal)."""
    rng = random.Random(seed)
    calm, disturbed = folder / "calm", folder / "disturbed"
    whole = finish(calm, flags)
    result = json.loads((calm / "result.json").read_text())
    training = sum(phase["seconds"] for phase in result["phases"].values())
    # So that the run is not over before the last kill.
    each = training / (1 + sum(name == "training" for name, _ in plan))
    killed = []
    for name, sign in plan:
        when = moment(name, disturbed, whole - training, each, rng)
        if entry := kill(disturbed, flags, sign, when):
            killed.append({"moment": name, "signal": sign.name, **entry})
            print(killed[-1], file=sys.stderr, flush=True)
    finish(disturbed, flags)
    after = json.loads((disturbed / "result.json").read_text())
    return {
        "differences": compare(calm, disturbed),
        "kills": killed,
        "resumed": after["resumed"],
        "seconds_undisturbed": round(whole, 1),
        **{key: result[key] for key in ("name", "config", "device", "versions")},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="at random moments")
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--results", type=Path, default=readme.RESULTS, help="folder")
    args, more = parser.parse_known_args()
    steps = [f"--config.train.{name}={value}" for name, value in STEPS.items()]
    flags = [f"--config={args.config}", *steps, *more]
    moments = ["start-up" if i % 4 == 1 else "training" for i in range(args.kills)]
    sign = signal.Signals[f"SIG{args.signal}"]
    plan = [(name, sign) for name in [*moments, "save", "figures", "done"]]
    folder = Path(tempfile.mkdtemp(prefix="kill_resume-"))
    report = kill_resume(folder, flags, plan, args.seed)
    report = {"command": sys.argv[1:], **report}
    jobs.keep("kill_resume", args.signal.lower(), report, args.results)
    if report["differences"]:
        sys.exit(f"they differ; the runs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
