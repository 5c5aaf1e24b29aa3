"""The table of CIFAR-10 with classes that are rarer."""

from experiments import jobs
from experiments.papers import cifar10_lt, table


def test_cifar10_lt_has_usbs_settings_and_figures():
    (runs,) = cifar10_lt.TABLES.values()
    assert len(runs) == 7 * 6  # methods, settings
    job_of = {job.name: job for job in jobs.jobs("cifar10_lt", runs, [0])}
    abc = job_of["abc-500-100r-seed0"]
    data, train = abc.config.data, abc.config.train
    assert (data.imbalance, data.gamma_labeled) == ("exponential", 100)
    assert (data.num_labels, data.num_unlabeled) == (5000, 40_000)
    assert data.gamma_unlabeled == 0.01 and not data.labeled_in_unlabeled
    assert (train.steps, train.batch_size, train.unlabeled_ratio) == (2**18, 64, 2)
    crest = job_of["crest-1500-150-seed0"]
    steps = [crest.config[name].steps for name in crest.config.phases]
    assert sum(steps) == 6 * 2**16
    shown = table.table(runs, {run.name: [] for run in runs})
    (line,) = [line for line in shown.splitlines() if line.startswith("| abc |")]
    assert "83.88 ± 0.27" in line and "77.15 ± 1.26" in line
