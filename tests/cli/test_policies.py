"""Settings that were found, laid over a config and under the command line."""

import json

import pytest
from absl import flags as flag_values

from configs import base, digits
from launching import assert_one_message
from ssl_jax.api import fitting
from ssl_jax.cli import command_line, modes, policies
from ssl_jax.errors import UserError
from ssl_jax.train import sections
from ssl_jax.train.run import run
from ssl_jax.workdir import logs, policy
from ssl_jax.workdir.policy import Policy


def written(folder, settings, **changes):
    fields = dict(
        name="fixmatch_digits",
        settings=settings,
        found=dict.fromkeys(settings, "trial 3 of 9"),
        validation={},
        data="digits",
        shape=(8, 8, 1),
        class_names=tuple("0123456789"),
        budget={},
        device={},
        versions={},
        git=None,
    )
    policy.write(folder, Policy(**fields | changes))
    return folder / policy.FILE


def parsed(*argv):
    known = flag_values.FlagValues()
    for name, default in (("config", None), ("workdir", ""), ("mode", "train")):
        flag_values.DEFINE_string(name, default, "", flag_values=known)
    config = command_line.parse(known, ["launch.py", *argv], modes.OF_A_RUN)
    return config.unlock()


SETTINGS = {
    "train.optimizer.learning_rate": 0.07,
    "train.steps": 800,
    "train.augment.mean": [100.0],  # a tuple, as JSON has it
}


def test_the_command_line_wins_over_a_policy_and_that_over_the_config(tmp_path):
    file = written(tmp_path, SETTINGS)
    given = [f"--config.policy={file}", "--config.train.steps=700"]
    for order in (given, given[::-1]):
        config = parsed("--config=digits", *order)
        wanted = digits.get_config()
        wanted.train.optimizer.learning_rate = 0.07
        wanted.train.augment.mean = (100.0,)
        wanted.train.steps = 700
        wanted.policy = str(file)
        assert config.to_dict() == wanted.to_dict()
    settings = {"policy": file, "train.steps": 700}
    assert fitting.configured("digits", settings).to_dict() == wanted.to_dict()
    assert parsed("--config=digits").policy == ""
    assert parsed("--config=digits", f"--config.policy={tmp_path}").train.steps == 800


@pytest.mark.parametrize(
    "preset", sorted(path.stem for path in policies.PRESETS.glob("*.json"))
)
def test_every_preset_is_of_a_config_that_is_there(preset):
    file = policies.find(preset)
    found = policy.read(file)
    config = parsed(f"--config={found.name}", f"--config.policy={preset}")
    assert config.policy == str(file)
    laid = config.to_dict()
    for field, value in found.settings.items():
        at = laid
        for part in field.split("."):
            at = at[part]
        assert at == value, field
    sections.parse(config)


def test_a_policy_may_bring_another_method(tmp_path):
    file = written(
        tmp_path,
        {
            "train.algorithm.moments_decay": 0.9,
            "train.algorithm.name": "softmatch.SoftMatch",
        },
    )
    given = ["--config=digits", f"--config.policy={file}"]
    config = parsed(*given)
    softmatch = base.algorithm("softmatch.SoftMatch", moments_decay=0.9)
    assert config.train.algorithm == softmatch and config.name == "softmatch_digits"
    uda = parsed(*given, "--config.train.algorithm.name=uda.UDA")
    assert uda.train.algorithm == base.algorithm("uda.UDA")


def test_a_preset_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "PRESETS", tmp_path)
    written(tmp_path, SETTINGS).rename(tmp_path / "digits_small.json")
    config = parsed("--config=digits", "--config.policy=digits_small")
    assert config.train.steps == 800
    assert config.policy == str(tmp_path / "digits_small.json")
    with pytest.raises(UserError, match="did you mean 'digits_small'"):
        parsed("--config=digits", "--config.policy=digits_smal")


@pytest.mark.parametrize(
    "settings, said",
    [
        (
            {"pretrain.steps": 3},
            ["pretrain.steps, which fixmatch_digits does not have"],
        ),
        ({"train.stepz": 3, "train.optimizer": 1}, ["train.stepz", "train.optimizer,"]),
        ({"train.steps": "many"}, ["train.steps='many', which is 1000 in"]),
        ({"train.steps.x": 1}, ["train.steps.x, which"]),
        ({"train.algorithm.name": "nope.Nope"}, ["'nope.Nope'"]),
    ],
)
def test_what_the_config_does_not_have_is_refused(settings, said, tmp_path):
    file = written(tmp_path, {**settings, "train.batch_size": 32})
    with pytest.raises(UserError) as error:
        parsed("--config=digits", f"--config.policy={file}")
    assert all(words in str(error.value) for words in said)


def test_what_a_policy_sets_is_not_left_to_the_data(tmp_path):
    """Though it be what stands in the file; of each phase that it has settings of."""
    settings = {
        "supervised.batch_size": 16,
        "semi_supervised.steps": 1_000,
        "semi_supervised.optimizer.learning_rate": 0.07,
    }
    config = parsed("--config=auto", f"--config.policy={written(tmp_path, settings)}")
    assert config.semi_supervised.optimizer.learning_rate == 0.07
    assert "batch_size" not in config.adapt.supervised
    assert "steps" not in config.adapt.semi_supervised
    assert {"steps", "optimizer"} < {*config.adapt.supervised}


def test_what_it_bought_is_told_by_phase(tmp_path):
    of_one = {"before": {}, "after": {}, "of_steps": 9}
    file = written(tmp_path, SETTINGS, validation=of_one)
    assert policy.read(file).of_phases == {"train": of_one}
    of_two = {"supervised": of_one, "semi_supervised": of_one}
    assert policy.read(written(tmp_path, {}, validation=of_two)).of_phases == of_two


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": 3}'])
def test_what_is_no_policy_is_refused(text, tmp_path):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(UserError, match="is no policy"):
        parsed("--config=digits", f"--config.policy={tmp_path}/policy.json")
    with pytest.raises(UserError, match="'none.json' is no file, nor a preset in"):
        parsed("--config=digits", "--config.policy=none.json")


def test_a_policy_of_images_of_another_shape_is_refused(launch, tmp_path):
    file = written(tmp_path, SETTINGS, shape=(32, 32, 3))
    flags = ("--config=digits:debug", f"--config.policy={file}")
    status, _, err = launch(*flags, f"--workdir={tmp_path / 'w'}")
    assert_one_message(status, err, "images of 32x32x3, and those of digits are 8x8x1")
    assert not (tmp_path / "w").exists()


def test_a_run_tells_what_it_takes_and_what_not(tmp_path, monkeypatch, caplog):
    """And that it has other classes; before anything else of it may fail."""
    said = []
    monkeypatch.setattr(logs, "say", said.append)
    config = digits.get_config("debug")
    config.policy = str(written(tmp_path, {"train.steps": 8}, class_names=("a", "b")))
    config.train.batch_size = 1000  # more than there are
    with pytest.raises(UserError, match="2000 unlabeled images"):
        run(config, tmp_path / "w")
    (told,) = [line for line in said if line.startswith("policy ")]
    assert told.endswith("; not its train.steps=8 but 4")
    assert "found on 2 classes, and digits has 10" in caplog.text

    # One that goes on asks for it no more.
    (tmp_path / "policy.json").unlink()
    with pytest.raises(UserError, match="policy .* cannot be read"):
        run(config, tmp_path / "w")
    (tmp_path / "w").mkdir()
    saved = {"config": json.loads(json.dumps(config.to_dict())), "resumed": 0}
    (tmp_path / "w" / "config.json").write_text(json.dumps(saved))
    (tmp_path / "w" / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="2000 unlabeled images"):
        run(config, tmp_path / "w")


def test_a_mode_of_a_run_has_its_settings_already(tmp_path):
    config = digits.get_config("debug")
    config.policy = "/nowhere/policy.json"  # which has gone since
    saved = {"config": json.loads(json.dumps(config.to_dict()))}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    again = parsed("--mode=predict", f"--workdir={tmp_path}")
    assert again.to_dict() == config.to_dict()
