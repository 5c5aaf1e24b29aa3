"""Nothing is waited for before the first step that only others need."""

import json
import subprocess
import sys

from launching import ROOT, environment

# launch.py, which stops as its first step would begin, and says what is imported then.
STOPPED = """
import json, runpy, sys
from ssl_jax.train import program

compile_phase = program.compile_phase

def stopping(phase, initial):
    def call(*_):
        print(json.dumps(list(sys.modules)))
        sys.exit(0)
    return compile_phase(phase, initial)._replace(call=call)

program.compile_phase = stopping
sys.argv[0] = "launch.py"
runpy.run_path("launch.py", run_name="__main__")
"""
LATE = (
    *("sklearn", "scipy.sparse", "scipy.stats", "pandas", "optuna", "pooch"),
    *("matplotlib", "faiss", "torch", "tensorboard", "clu.metric_writers"),
    *("tensorflow", "tensorflow_datasets", "array_record", "grain"),
)


def test_digits_start_without_what_other_runs_need(tmp_path):
    flags = ("--config=digits:debug", "--config.tensorboard=False")
    run = subprocess.run(
        [sys.executable, "-c", STOPPED, *flags, f"--workdir={tmp_path / 'w'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert run.returncode == 0, run.stderr[-2000:]
    modules = set(json.loads(run.stdout.splitlines()[-1]))
    assert {"jax", "orbax.checkpoint", "ssl_jax.train.loop"} <= modules
    assert not modules & set(LATE)
