"""What a GPU is asked: parts, each of a few commands, with its share of the minutes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

GRACE = 30.0  # seconds from SIGTERM, at which a run saves, to SIGKILL
SHOWN = 25  # last lines of a command that are printed: all are in the log


class Asked(NamedTuple):
    """What the command line says."""

    minutes: float  # of the part
    debug: bool
    results: Path
    brought: Path
    methods: list[str]
    labels: list[str]
    of_minutes: float


@dataclass(frozen=True)
class Part:
    share: float  # of the minutes, in units of all parts'
    needs: tuple[str, ...]  # of machine.NEEDS
    commands: Callable[[Asked], list[list[str]]]  # module and flags, in their order


def peers(asked: Asked) -> list[list[str]]:
    """FixMatch in each precision first; then the other works, as the minutes allow.

    What torch.compile makes of it takes most of ten minutes on an H100: the first row
    is without, and is replaced by the second where there is time.
    """
    here = ["experiments.speed.peers", f"--results={asked.results}"]
    if asked.debug:
        # One step's equality costs most; one precision shows it.
        of = [*here, "--debug", "--works=convnet_mnist", "--compile=no", "--workers=1"]
        return [
            [*of, "--precision=float32", "--keep=gpu_float32"],
            [*of, "--precision=bfloat16", "--keep=gpu_bfloat16", "--nocheck"],
        ]
    here += ["--rounds=3", "--workers=16"]
    first = [
        [*here, "--works=fixmatch", f"--precision={p}", f"--keep=gpu_{p}", *check]
        for p, check in (
            ("bfloat16", ["--compile=no", "--nocheck"]),
            ("bfloat16", []),
            ("tf32", ["--nocheck"]),
        )
    ]
    float32 = ["--works=fixmatch", "--precision=float32", "--keep=gpu_float32"]
    rest = "fixmatch_nograd,wrn64,byol32,byol96,mobilenet,convnet_mnist"
    others = [f"--works={rest}", "--precision=bfloat16", "--keep=gpu_bfloat16"]
    return [
        *first,
        [*here, *float32, "--nocheck"],
        [*here, *others, "--byol_batch=256"],
    ]


def steps(asked: Asked) -> list[list[str]]:
    here = ["experiments.speed.steps_per_call", f"--results={asked.results}"]
    if asked.debug:
        here += ["--debug", "--calls=1,2", "--rounds=1", "--seconds=0.1"]
        here += ["--run=digits:supervised", "--dtype=float32"]
        return [here, [*here, "--deterministic"]]
    return [
        here,
        [*here, "--deterministic", "--calls=1"],
        [*here, "--run=digits:fixmatch", "--dtype=float32"],
    ]


def _race(asked, runs, labels):
    command = [
        "experiments.speed.race",
        f"--results={asked.results}",
        f"--packed={asked.brought}",
        f"--labels={','.join(labels)}",
        f"--of_minutes={asked.of_minutes}",
        # It ends by itself, and has until then to save.
        f"--minutes={asked.minutes - min(0.5, 0.3 * asked.minutes):.3f}",
        *(f"--run={run}" for run in runs),
    ]
    if asked.debug:
        command += ["--debug", "--dtype=float32", "--steps_per_call=1"]
    return [command]


def race(asked: Asked) -> list[list[str]]:
    runs = [f"cifar10:{method}" for method in asked.methods]
    return _race(asked, runs, asked.labels[:1] if asked.debug else asked.labels)


def byol(asked: Asked) -> list[list[str]]:
    return _race(asked._replace(of_minutes=0.0), ["byol_cifar10"], ["0"])


def seeds(asked: Asked) -> list[list[str]]:
    here = ["experiments.speed.seeds_at_once", f"--results={asked.results}"]
    if asked.debug:  # a convolution is refused on a CPU
        return [[*here, "--run=digits:supervised,debug", "--model=mlp", "--seeds=3"]]
    return [[*here, "--run=digits:fixmatch", "--seeds=10"]]


def graphs(asked: Asked) -> list[list[str]]:
    results = f"--results={asked.results}"
    spread = ["experiments.speed.label_spreading_scale", results]
    spread += ["--parts=million", "--graph=exact"]
    cora = ["experiments.speed.seeds_at_once", results, "--run=gcn_cora"]
    cora += [f"--data_dir={asked.brought / '1' / 'planetoid'}"]
    if asked.debug:
        return [[*spread, "--smoke"], [*cora, "--seeds=2", "--steps=10"]]
    return [spread, [*cora, "--seeds=100"]]


PARTS = {  # those that take what is left of the minutes last
    "peers": Part(3.5, ("torch",), peers),
    "steps": Part(1.5, (), steps),
    "seeds": Part(0.5, (), seeds),
    "graphs": Part(1.0, ("cora",), graphs),
    "race": Part(2.0, ("cifar10",), race),
    "byol": Part(1.0, ("cifar10",), byol),
}


def run(names: list[str], asked: Asked) -> list[str]:
    """Runs the parts, one after the other; what went wrong, a line each.

    `asked.minutes` are of all of them: each has its share, and what an earlier one did
    not need. After each command summary.json in `asked.results` says how it ended.
    """
    asked.results.mkdir(parents=True, exist_ok=True)
    wrong, summary, ends = [], [], time.monotonic() + 60 * asked.minutes
    for i, name in enumerate(names):
        left = sum(PARTS[other].share for other in names[i:])
        minutes = (ends - time.monotonic()) / 60 * PARTS[name].share / left
        print(f"== {name}: {minutes:.1f} minutes", flush=True)
        until = time.monotonic() + 60 * minutes
        for command in PARTS[name].commands(asked._replace(minutes=minutes)):
            said = execute(command, until, asked.results / "log.txt")
            summary.append({"part": name, "command": command, **said})
            text = json.dumps(summary, indent=1)
            (asked.results / "summary.json").write_text(text)
            if said["ended"] != "well":
                wrong.append(f"{name}: {' '.join(command)}: {said['ended']}")
                print(wrong[-1], flush=True)
    return wrong


def execute(command: list[str], until: float, log: Path) -> dict:
    """Runs a module with its flags, at most until the time `until`, of time.monotonic:
    then it is sent SIGTERM, and is killed if it goes on."""
    began = time.monotonic()
    if until <= began:
        return {"ended": "not begun: no minutes were left", "seconds": 0.0}
    print(f"-- {' '.join(command)}", flush=True)
    with log.open("a+", encoding="utf-8", errors="replace") as file:
        start = file.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,  # a DataLoader's workers end with it
        )
        ended = None
        try:
            status = process.wait(until - began)
            ended = "well" if status == 0 else f"status {status}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                pass
            ended = f"stopped after its {(until - began) / 60:.1f} minutes"
        finally:  # whatever it leaves, also where we are stopped
            _end(process)
        file.seek(start)
        print("".join(file.readlines()[-SHOWN:]), flush=True)
    return {"ended": ended, "seconds": round(time.monotonic() - began, 1)}


def _end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
