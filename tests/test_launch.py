"""launch.py as a process: each user mistake is one message, status 2, nothing written.

Starting Python and importing JAX takes seconds, so most cases run in forks of one
process that has imported everything and started nothing.
"""

import time

import pytest
from launching import assert_one_message, forked, real

from configs import fixmatch_digits
from ssl_jax.errors import UserError
from ssl_jax.train.run import run

DIGITS = "--config=configs/fixmatch_digits.py:debug"


@pytest.fixture(scope="module")
def launch():
    with forked() as launch:
        yield launch


COMMAND_LINE = [
    ([], "give a --config; there are:", "configs/fixmatch_digits.py"),
    (["--config.seed=1"], "give a --config"),
    (["--config"], "Missing value for flag --config"),
    (["--config=configs/nope.py"], "'configs/nope.py'", "configs/supervised_digits.py"),
    (["--config=configs/base.py"], "no get_config()", "configs/fixmatch_digits.py"),
    (["--config=README.rst"], "no config 'README.rst'"),
    (["--config=configs/fixmatch_digits.py:nope,debug"], "nope", "knows: debug"),
    ([DIGITS, "--config.train.stepz=3"], "'stepz'. Did you mean 'steps'?", "patience"),
    ([DIGITS, "--config.nope=1"], "config has no field 'nope'. It has: data, "),
    ([DIGITS, "--config.nope.deeper=1"], "config has no field 'nope'"),
    ([DIGITS, "--config.train.steps.x=1"], "config.train.steps is one value, 4"),
    ([DIGITS, "--config.train=3"], "config.train is a section", "config.train.steps"),
    ([DIGITS, "--config.train.steps=many"], "--config.train.steps=many", "int"),
    ([DIGITS, "--config.train.augment.mean=x"], "must be float, as in (127.5,)"),
    ([DIGITS, "--noconfig.deterministic=1"], "--noconfig.deterministic=1"),
    ([DIGITS, "--wrkdir=3"], "'wrkdir'. Did you mean: workdir"),
    ([DIGITS, "--mode=nope"], "--mode=nope", "<train|probe|query|predict>"),
    ([DIGITS, "config.seed=3"], "'config.seed=3' is no flag"),
]


@pytest.mark.parametrize("flags, said", [(case[0], case[1:]) for case in COMMAND_LINE])
def test_mistake_on_the_command_line(launch, flags, said, tmp_path):
    workdir = tmp_path / "w"
    status, _, err = launch(f"--workdir={workdir}", *flags)
    assert_one_message(status, err, *said)
    assert len(err.splitlines()) == 1
    assert not workdir.exists()


CONFIGURATION = [
    (["seed=-1"], "seed=-1 must be at least 0"),
    (["phases=()"], "phases is empty; name some of: train"),
    (["phases=pretrain"], "'pretrain'", "it has: train"),
    (["phases=data"], "'data'", "it has: train"),
    (["phases=train,train"], "names a phase twice"),
    (["train.start_from=pretrain"], "start_from='pretrain'"),
    (["train.patience=2"], "patience=2 needs validation images"),
    (["train.steps=0"], "steps=0 must be at least 1"),
    (["train.steps_per_call=3"], "steps=4 is not a multiple of steps_per_call=3"),
    (["train.unlabeled_ratio=-1"], "unlabeled_ratio=-1"),
    (["train.batch_size=1000"], "2000 unlabeled images", "1297"),
    (["train.algorithm.name=nope.Nope"], "'nope.Nope'", "fixmatch"),
    (["train.algorithm.name=supervised.Supervised"], "threshold", "config file"),
    (["train.optimizer.name=nope"], "optimizer.name='nope'", "sgd"),
    (["train.optimizer.schedule=nope"], "schedule='nope'", "cosine"),
    (["model.name=nope"], "nope", "convnet"),
    (["model.dtype=float33"], "dtype='float33'", "bfloat16"),
    (["data.name=nope"], "unknown data set 'nope'"),
    (["data.name=cifar10", "data.dir=/nonexistent"], "'/nonexistent'"),
    (["data.num_labels=21"], "num_labels=21", "10 classes", "20 or 30"),
]


@pytest.mark.parametrize(
    "fields, said", [(case[0], case[1:]) for case in CONFIGURATION]
)
def test_mistake_in_the_configuration(fields, said, tmp_path, monkeypatch):
    config = fixmatch_digits.get_config("debug")
    values = dict(field.split("=") for field in fields)
    for name, text in values.items():
        section = config
        *sections, last = name.split(".")
        for part in sections:
            section = section[part]
        kind = type(section[last])
        if kind is tuple:
            section[last] = tuple(filter(None, text.strip("()").split(",")))
        else:
            section[last] = kind(text)
    with pytest.raises(UserError) as error:
        run(config, tmp_path / "w")
    for words in said:
        assert words in str(error.value)
    assert not (tmp_path / "w").exists()


def test_batch_that_does_not_divide_over_the_devices(tmp_path):
    config = fixmatch_digits.get_config("debug")
    config.train.batch_size = 10
    with pytest.raises(UserError, match="batch_size=10 .* 4 devices; use a multiple"):
        run(config, tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("where", ["file", "file/under", "/proc/nowhere"])
def test_workdir_that_cannot_be_one(launch, where, tmp_path):
    (tmp_path / "file").write_text("mine")
    status, _, err = launch(DIGITS, f"--workdir={tmp_path / where}")
    assert_one_message(status, err, str(tmp_path / where), "give another --workdir")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_mistake_found_while_compiling_leaves_no_workdir(launch, tmp_path):
    status, _, err = launch(
        DIGITS,
        f"--workdir={tmp_path / 'w'}",
        "--config.train.augment.shift=100",
        "--config.tensorboard=True",
    )
    assert_one_message(status, err, "augment.shift=100")
    assert not (tmp_path / "w").exists()


def test_training_that_diverges_keeps_the_last_good_checkpoint(launch, tmp_path):
    flags = (
        DIGITS,
        f"--workdir={tmp_path / 'w'}",
        "--config.train.optimizer.learning_rate=1e20",
        "--config.train.optimizer.warmup_steps=3",  # step 1 has learning rate 0
        "--config.train.checkpoint_every=1",
    )
    status, _, err = launch(*flags)
    assert status == 2 and "Traceback" not in err
    assert "finite" in err.splitlines()[-1] and "learning_rate" in err.splitlines()[-1]
    assert (tmp_path / "w" / "train" / "checkpoints" / "1").is_dir()
    assert not (tmp_path / "w" / "result.json").exists()


def test_a_programming_error_shows_its_traceback(launch, tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("def get_config():\n    return {}['seed']\n")
    status, _, err = launch(f"--config={config}")
    assert status == 1
    assert "Traceback" in err and "mine.py" in err and "KeyError: 'seed'" in err


def test_help(launch):
    for flag in ("--help", "--helpfull"):
        _, out, err = launch(flag)
        assert "--workdir" in out and "Traceback" not in err


def test_from_elsewhere_and_again(tmp_path):
    """From another directory: a whole run, then its result without training, then
    another configuration. TensorFlow is not imported by any."""
    python = ("-X", "importtime")
    flags = (DIGITS, "--workdir=w")
    first = real(*flags, cwd=tmp_path, python=python)
    assert first.returncode == 0, first.stderr
    imported = {
        line.rpartition("|")[2].strip()
        for line in first.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "jax" in imported
    assert not {"tensorflow", "tensorflow_datasets"} & imported
    result = (tmp_path / "w" / "result.json").read_bytes()
    began = time.monotonic()
    second = real(*flags, cwd=tmp_path)
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert second.stderr == ""
    assert time.monotonic() - began < 30
    assert (tmp_path / "w" / "result.json").read_bytes() == result
    other = real(*flags, "--config.train.steps=6", cwd=tmp_path)
    assert_one_message(other.returncode, other.stderr, "train.steps = 4 there, 6 here")
    assert (tmp_path / "w" / "result.json").read_bytes() == result


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--config=configs/nope.py"], "configs/fixmatch_digits.py"),
        ([DIGITS, "--config.train.stepz=3"], "Did you mean 'steps'?"),
        ([DIGITS, "--config.data.num_labels=21"], "num_labels=21"),
    ],
)
def test_mistakes_in_a_real_process(flags, said, tmp_path):
    process = real(*flags, cwd=tmp_path)
    assert_one_message(process.returncode, process.stderr, said)
    assert list(tmp_path.iterdir()) == []
