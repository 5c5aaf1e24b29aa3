"""launch.py as a process: each user mistake is one message, status 2, nothing written.

Starting Python and importing JAX takes seconds, so most cases run in forks of one
process that has imported everything and started nothing.
"""

import json
import time

import jax
import pytest
from absl import flags as flag_values

from configs import base, byol_digits, cifar10, digits, methods, mnist
from launching import assert_one_message, forked, real
from ssl_jax.cli import command_line, config_files, modes
from ssl_jax.errors import UserError
from ssl_jax.train import sections
from ssl_jax.train.run import run

DIGITS = "--config=configs/digits.py:debug"


@pytest.fixture(scope="module")
def launch():
    with forked() as launch:
        yield launch


# What there is, of every kind.
THERE = ("data sets, with a method", "cifar10", "methods:", "uda", "gcn_cora")
COMMAND_LINE = [
    (["--config"], "Missing value for flag --config"),
    (["--config=configs/digits.py:nope,debug"], "nope", "knows: debug, and the"),
    ([DIGITS, "--config.train.stepz=3"], "'stepz'. Did you mean 'steps'?", "patience"),
    ([DIGITS, "--config.nope=1"], "config has no field 'nope'. It has: ablate, "),
    ([DIGITS, "--config.nope.deeper=1"], "config has no field 'nope'"),
    ([DIGITS, "--config.train.steps.x=1"], "config.train.steps is one value, 4"),
    ([DIGITS, "--config.train=3"], "config.train is a section", "config.train.steps"),
    ([DIGITS, "--config.train.steps=many"], "'many' is no int: write 1000 or 1e3"),
    ([DIGITS, "--config.train.steps=1e-1"], "'1e-1' is no int", "--config.train.steps"),
    ([DIGITS, "--config.train.augment.mean=x"], "must be float, as in (127.5,)"),
    ([DIGITS, "--noconfig.deterministic=1"], "--noconfig.deterministic=1"),
    ([DIGITS, "--wrkdir=3"], "'wrkdir'. Did you mean: workdir"),
    ([DIGITS, "--mode=nope"], "--mode=nope", "<train|", "|tune|"),
    ([DIGITS, "config.seed=3"], "'config.seed=3' is no flag"),
]


@pytest.mark.parametrize("flags, said", [(case[0], case[1:]) for case in COMMAND_LINE])
def test_mistake_on_the_command_line(launch, flags, said, tmp_path):
    workdir = tmp_path / "w"
    status, _, err = launch(f"--workdir={workdir}", *flags)
    assert_one_message(status, err, *said)
    assert len(err.splitlines()) == 1
    assert not workdir.exists()


NO_CONFIG = [
    ([], "give a --config"),
    (["--config.seed=1"], "give a --config"),
    (["--config=configs/nope.py"], "no config 'configs/nope.py'. There are:"),
    (["--config=configs/base.py"], "configs/base.py has no get_config(). There are:"),
    (["--config=README.rst"], "no config 'README.rst'"),
]


NAMES = [
    (["--config=cifar01"], "no config 'cifar01'. Did you mean 'cifar10'?"),
    (["--config=configs/bol_stl10.py:tutorial"], "mean 'byol_stl10:tutorial'?"),
    (["--config=softmatch_sivhn:cta"], "Did you mean 'svhn:softmatch,cta'?"),
    (["--config=softmatch"], "Did you mean 'cifar10:softmatch'?"),
    (["--config=digits:flexmach"], "flexmach (did you mean flexmatch?)", "methods: "),
    (["--config=cifar10:uda,dash"], "dash and uda after", "2 methods; give one"),
    ([DIGITS, "--config.model.name=nope"], "'nope", "convnet", "wide_resnet"),
    ([DIGITS, "--config.train.algorithm.name=nope.N"], "'nope", "fixmatch"),
    ([DIGITS, "--config.train.algorithm.name=dash.D"], "'dash.D'", "dash.Dash"),
    ([DIGITS, "--config.train.augment.name=nope"], "'nope'", "two_crops"),
    (
        [DIGITS, "--config.train.algorithm.name=uda.UDA", "--config.train.stepz=3"],
        "Did you mean 'steps'?",
    ),
    (
        [DIGITS, "--config.model.name=resnet", "--config.model.filters=(8,)"],
        "config.model has no field 'filters'. It has: bn_momentum, bn_warmup",
    ),
    (
        ["--config=configs/flexmatch_cifar10.py:cta"],
        "'configs/flexmatch_cifar10.py:cta' is 'cifar10:flexmatch,cta' now",
    ),
    (["--config=fixmatch_svhn"], "'fixmatch_svhn' is 'svhn' now"),
    (["--config=finetune_stl10:debug"], "is 'byol_stl10:finetune,debug' now"),
    (
        ["--config=configs/supervised_stl10.py"],
        "is 'byol_stl10:scratch' or 'stl10:supervised' now",
    ),
]


@pytest.mark.parametrize("flags, said", [(case[0], case[1:]) for case in NAMES])
def test_mistake_in_a_name(flags, said):
    with pytest.raises(UserError) as error:
        parsed(*flags)
    for words in said:
        assert words in str(error.value)


@pytest.mark.parametrize("flags, said", NO_CONFIG)
def test_no_config_lists_what_there_is(launch, flags, said, tmp_path):
    workdir = tmp_path / "w"
    status, _, err = launch(f"--workdir={workdir}", *flags)
    assert_one_message(status, err, said, *THERE)
    assert all(len(line) <= 80 for line in err.splitlines()[1:])
    assert not workdir.exists()


def test_the_columns_hold_every_config_and_method():
    rows = config_files.there().splitlines()[1:]
    kinds = [i for i, row in enumerate(rows) if not row.startswith(" ")]
    shown = [
        " ".join(rows[i + 1 : end]).split()
        for i, end in zip(kinds, [*kinds[1:], None], strict=True)
    ]
    files = {path.stem for path in (config_files.ROOT / "configs").glob("*.py")}
    assert {*shown[0], *shown[2]} == files - {"base", "methods"}
    assert shown[1] == list(methods.names())
    assert {"digits", "folder"} < {*shown[0]} and "byol_digits" in shown[2]


def parsed(*argv):
    known = flag_values.FlagValues()
    for name, default in (("config", None), ("workdir", ""), ("mode", "train")):
        flag_values.DEFINE_string(name, default, "", flag_values=known)
    config = command_line.parse(known, ["launch.py", *argv], modes.OF_A_RUN)
    assert config.is_locked
    return config.unlock()


@pytest.mark.parametrize(
    "given",
    [
        "cifar10:flexmatch,small",
        "cifar10.py:flexmatch,small",
        "configs/cifar10.py:flexmatch,small",
        f"{config_files.ROOT}/configs/cifar10.py:flexmatch,small",
    ],
)
def test_a_config_by_name_or_path_from_anywhere(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()  # is not the config
    wanted = cifar10.get_config("flexmatch,small")
    wanted.seed = 3
    for argv in (
        [f"--config={given}", "--config.seed=3"],
        ["--config.seed", "3", "--config", given],
    ):
        config = parsed(*argv, "--workdir=w")
        assert config.to_dict() == wanted.to_dict()


def test_ones_own_config_is_found_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = "from configs import cifar10\n\ndef get_config():\n"
    (tmp_path / "digits.py").write_text(f"{mine}    return cifar10.get_config('uda')\n")
    assert parsed("--config=digits.py").name == "uda_cifar10"
    assert parsed("--config=digits").name == "fixmatch_digits"  # of configs/


def test_another_model_is_refilled_before_its_fields_are_set():
    digits_config = digits.get_config()
    given = ["--config.model.name=resnet", "--config.model.stem=imagenet"]
    for order in (given, given[::-1]):
        config = parsed("--config=digits", *order)
        assert config.model == base.model("resnet", stem="imagenet")
        assert config.train == digits_config.train
    same = parsed("--config=digits", "--config.model.name=convnet")
    assert same.to_dict() == digits_config.to_dict()


def test_another_algorithm_on_the_same_views_keeps_all_else():
    given = [
        "--config.train.algorithm.threshold=0.9",
        "--config.train.algorithm.name",
        "flexmatch.FlexMatch",
        "--config.train.steps=7",
    ]
    config, before = parsed("--config=mnist", *given), mnist.get_config()
    flexmatch = base.algorithm("flexmatch.FlexMatch", threshold=0.9)
    assert config.train.algorithm == flexmatch
    assert config.name == "flexmatch_mnist"  # and not what it is no more
    assert config.train.steps == 7
    before.train.update(steps=7)
    for field in before.train:
        if field != "algorithm":
            assert config.train[field] == before.train[field], field


@pytest.mark.parametrize(
    "name", ["byol.BYOL", "label_spreading.LabelSpreading", "autoencoder.Autoencoder"]
)
def test_another_kind_of_algorithm_takes_what_it_needs(name):
    config, before = (
        parsed("--config=digits", f"--config.train.algorithm.name={name}"),
        digits.get_config(),
    )
    fresh, train = base.phase(base.algorithm(name)), config.train
    assert train.algorithm == fresh.algorithm
    assert train.batch_size == fresh.batch_size
    assert train.unlabeled_ratio == fresh.unlabeled_ratio == 0
    if name == "autoencoder.Autoencoder":  # on weak and strong views as well
        assert train.augment == before.train.augment
    else:
        assert train.augment == fresh.augment
    if name == "label_spreading.LabelSpreading":
        assert not train.optimizer and not train.augment
    else:
        assert train.optimizer == before.train.optimizer
    sections.parse(config)


def test_another_kind_of_views():
    name = "--config.pretrain.augment.name=weak_strong"
    config = parsed("--config=byol_digits", "--config.pretrain.augment.shift=2", name)
    assert config.pretrain.augment == base.augmentation("weak_strong", shift=2)
    with pytest.raises(UserError, match="byol.BYOL trains on the views 'two_crops'"):
        sections.parse(config)
    same = parsed("--config=byol_digits", "--config.pretrain.augment.name=two_crops")
    assert same.to_dict() == byol_digits.get_config().to_dict()


def test_a_mode_of_a_run_takes_its_configuration_from_the_workdir(tmp_path):
    config = parsed("--config=digits:uda,debug")
    saved = {"config": json.loads(json.dumps(config.to_dict()))}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    again = parsed("--mode=predict", f"--workdir={tmp_path}", "--config.predict.dir=x")
    assert again.predict.dir == "x"
    again.predict.dir = ""
    assert again.to_dict() == config.to_dict()


def test_another_algorithm_trains(tmp_path):
    config = parsed(
        "--config=digits:debug",
        "--config.train.algorithm.strong=True",
        "--config.train.algorithm.name=supervised.Supervised",
    )
    result = modes.run(config, tmp_path / "w", devices=jax.devices()[:1])
    assert result["name"] == "supervised_digits_debug"
    assert result["phases"]["train"]["algorithm"] == "supervised.Supervised"


CONFIGURATION = [
    (["seed=-1"], "seed=-1 must be in [0, "),
    (["phases=()"], "phases is empty; name some of: train"),
    (["phases=pretrain"], "'pretrain'", "it has: train"),
    (["phases=data"], "'data'", "it has: train"),
    (["phases=train,train"], "names a phase twice"),
    (["train.start_from=pretrain"], "start_from='pretrain'"),
    (["train.patience=2"], "patience=2 needs validation images"),
    (["train.steps=0"], "steps=0 must be at least 1"),
    (
        ["train.steps_per_call=3"],
        "train.steps=4 is not a multiple of train.steps_per_call=3",
    ),
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
    config = digits.get_config("debug")
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
    config = digits.get_config("debug")
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
    found, _, err = err.partition("\n")
    assert found.startswith("10 classes: ")
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


def test_the_flags_of_all_libraries_are_listed(launch):
    _, out, err = launch("--helpfull")
    assert "--workdir" in out and "Traceback" not in err


def test_from_elsewhere_and_again(tmp_path):
    """From another directory: a whole run, then its result without training, then
    another configuration. TensorFlow is not imported by any, but event files are
    written."""
    python = ("-X", "importtime")
    flags = (DIGITS, "--workdir=w", "--config.tensorboard=True")
    first = real(*flags, cwd=tmp_path, python=python)
    assert first.returncode == 0, first.stderr
    imported = {
        line.rpartition("|")[2].strip()
        for line in first.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "jax" in imported
    assert not {"tensorflow", "tensorflow_datasets"} & imported
    assert list((tmp_path / "w").glob("events.out.tfevents.*"))
    assert first.stdout.endswith("w/figures\nall on a page: w/report.html\n")
    result = (tmp_path / "w" / "result.json").read_bytes()
    began = time.monotonic()
    second = real(*flags, cwd=tmp_path)
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert second.stderr == "w is over already; this is its result\n"
    assert time.monotonic() - began < 30
    assert (tmp_path / "w" / "result.json").read_bytes() == result
    other = real(*flags, "--config.train.steps=6", cwd=tmp_path)
    assert_one_message(other.returncode, other.stderr, "train.steps = 4 there, 6 here")
    assert (tmp_path / "w" / "result.json").read_bytes() == result


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--config=configs/nope.py"], "digits:flexmatch"),
        ([DIGITS, "--config.train.stepz=3"], "Did you mean 'steps'?"),
        ([DIGITS, "--config.data.num_labels=21"], "num_labels=21"),
    ],
)
def test_mistakes_in_a_real_process(flags, said, tmp_path):
    process = real(*flags, cwd=tmp_path)
    assert_one_message(process.returncode, process.stderr, said)
    assert list(tmp_path.iterdir()) == []
