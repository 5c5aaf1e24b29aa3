"""Nothing is waited for before the first step that only others need."""

from experiments.speed import first_step
from launching import environment

LATE = {
    *("sklearn", "scipy.sparse", "scipy.stats", "pandas", "optuna", "pooch"),
    *("matplotlib", "faiss", "torch", "tensorboard", "clu.metric_writers"),
    *("tensorflow", "tensorflow_datasets", "array_record", "grain"),
}


def test_digits_start_without_what_other_runs_need():
    flags = ("--config=digits:debug", "--config.tensorboard=False")
    started = first_step.start(flags, environment())
    assert {"jax", "orbax.checkpoint", "ssl_jax.train.loop"} <= set(started["modules"])
    assert not LATE & set(started["modules"])
    assert started["seconds"] > 0 and started["cpu_seconds"] > 0
