"""Checkpoints come back as they were, or say that they do not."""

import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from configs import digits as config_file
from ssl_jax import core
from ssl_jax.core import TrainState, mean
from ssl_jax.data import sources
from ssl_jax.errors import UserError
from ssl_jax.workdir import handover, results
from ssl_jax.workdir.checkpoints import KEEP, Checkpoints, checksum, not_finite
from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.workdir import Workdir

DIGITS = sources.load("digits")


def tree(step, seed=0):
    """Every kind of leaf and container that a checkpoint may hold."""
    normal = np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)
    params = {"encoder": {"kernel": jnp.asarray(normal)}, "head": {"bias": jnp.ones(3)}}
    tx = optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-3))
    state = TrainState(
        step=jnp.int32(step),
        params=params,
        model_state={"batch_stats": {"encoder": {"mean": jnp.zeros(3)}}},
        opt_state=tx.init(params),
        extra={
            "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
            "counts": jnp.arange(6).reshape(2, 3),
            "seen": jnp.array([True, False, True]),
            "pair": (jnp.float32(0.1), [jnp.uint8(7)]),
            "empty": {},
            "nothing": (),
        },
    )
    return {"state": state, "sums": {"loss": mean(jnp.ones(2))}}


def saved(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree(step, seed=step))
    return folder


def restored(folder, step):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(step, tree(0))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def data_file(folder, step):
    """The largest file of a checkpoint: the arrays, compressed."""
    files = [f for f in (folder / str(step) / "state").rglob("*") if f.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def truncate(folder, step):
    file = data_file(folder, step)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_tree_comes_back_with_its_dtypes_and_containers(tmp_path):
    assert_same(restored(saved(tmp_path, 2), 2), tree(2, seed=2))


def test_newest_as_plain_dicts(tmp_path):
    with Checkpoints(saved(tmp_path, 2, 4)) as checkpoints:
        state = checkpoints.newest()[1]["state"]
    assert state["step"] == 4
    expected = tree(4, seed=4)["state"]
    assert_same(state["params"], jax.device_get(expected.params))
    assert state["extra"]["half"].dtype == ml_dtypes.bfloat16


def test_newest_of_none(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="no ch"):
        checkpoints.newest()[1]


def test_the_newest_are_kept_and_a_step_is_saved_once(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, 5)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [3, 4, 5]
        assert len(checkpoints.steps) == KEEP
        checkpoints.save(5, tree(5, seed=9))
    assert_same(restored(tmp_path, 5), tree(5, seed=5))


def test_the_seconds_of_a_save_are_kept_where_it_has_them(tmp_path):
    saved(tmp_path, 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, tree(4), 1.5)
        assert checkpoints.seconds(2) is None
        assert checkpoints.seconds(4) == 1.5


def test_what_a_killed_save_leaves_is_not_restored_and_goes(tmp_path):
    saved(tmp_path, 2)
    left = tmp_path / "3.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "2", left)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [2]
    assert left.exists()  # may be the save under way of another process
    with Checkpoints(tmp_path, tidy=True) as checkpoints:
        checkpoints.save(4, tree(4))
    assert not left.exists()


def test_flipped_bytes_that_orbax_would_restore(tmp_path):
    """Orbax notices some bytes that are others, but few in the values."""
    file = data_file(saved(tmp_path, 2, 4), 4)
    whole = file.read_bytes()
    by_checksum = 0
    for at in range(0, len(whole), len(whole) // 12):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert_same(restored(tmp_path, 4), tree(4, seed=4))  # a byte unused
        except UserError as error:
            assert f"{tmp_path / '4'} cannot be read" in str(error)
            assert f"The newest readable one is {tmp_path / '2'}" in str(error)
            by_checksum += "its checksum differs" in str(error)
    assert by_checksum > 6


@pytest.mark.parametrize("damage", ["state", "checksum", "data"])
def test_missing_or_short_files_are_damage(tmp_path, damage):
    saved(tmp_path, 2, 4)
    if damage == "data":
        truncate(tmp_path, 4)
    else:
        shutil.rmtree(tmp_path / "4" / damage)
    with pytest.raises(UserError, match="The newest readable one is .*/2: .*delete"):
        restored(tmp_path, 4)


def test_the_readable_one_is_offered_past_damaged_ones(tmp_path):
    saved(tmp_path, 1, 2, 3)
    truncate(tmp_path, 3)
    truncate(tmp_path, 2)
    with pytest.raises(UserError, match=r"readable one is .*/1: .* every later one"):
        restored(tmp_path, 3)
    truncate(tmp_path, 1)
    with pytest.raises(UserError, match=f"No other can be read: .*{tmp_path}"):
        restored(tmp_path, 3)


def test_what_is_not_finite_is_not_written(tmp_path):
    bad = tree(4)
    bad["state"].params["head"]["bias"] = jnp.array([1.0, jnp.inf, 0.0])
    said = r"state/params/head/bias of the phase 'train' .*step 4.*no check.*"
    said += r"Lower train\.optimizer\.learning_rate"
    folder = tmp_path / "train" / "c"
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(UserError, match=said):
            checkpoints.save(4, bad)
        checkpoints.save(2, tree(2))
        with pytest.raises(UserError, match=f"last good .*{folder / '2'}"):
            checkpoints.save(4, bad)
        assert checkpoints.steps == [2]


@pytest.mark.parametrize(
    "name",
    [
        *("state/params/encoder/kernel", "state/model_state/batch_stats/encoder/mean"),
        *("state/opt_state/1/0/mu/encoder/kernel", "state/extra/half"),
        *("state/extra/pair/0", "sums/loss/total"),
    ],
)
def test_nan_is_found_in_the_whole_tree(name):
    """Such as in the thresholds of SoftMatch, of one unlabeled image a step."""

    def spoiled(path, leaf):
        here = jax.tree_util.keystr(path, simple=True, separator="/")
        return jnp.full_like(leaf, jnp.nan) if here == name else leaf

    assert not_finite(tree(4)) == ""
    assert not_finite(jax.tree.map_with_path(spoiled, tree(4))) == name


def test_infinity_is_a_number_of_a_method_and_of_nobody_else():
    """Label spreading keeps logarithms, of 0 as well."""
    infinite = tree(4)
    infinite["state"].extra["half"] = jnp.array([-jnp.inf, 0.0], jnp.bfloat16)
    assert not_finite(infinite) == ""
    infinite["state"].model_state["batch_stats"]["encoder"]["mean"] = jnp.inf
    assert not_finite(infinite) == "state/model_state/batch_stats/encoder/mean"


def test_checksum_sees_names_and_bits_not_containers():
    one = {"a": np.float32(0.0), "b": [np.ones(2)], "c": np.zeros((0, 3))}
    assert checksum(one) == checksum(
        {**dict(reversed(one.items())), "b": (np.ones(2),)}
    )
    assert checksum(one) != checksum({**one, "a": np.float32(-0.0)})
    assert checksum({"a": np.ones(2)}) != checksum({"b": np.ones(2)})


@pytest.fixture
def config():
    return config_file.get_config("debug")


@pytest.fixture
def mesh():
    return core.make_mesh()


def entered(path, config, mesh):
    """As a run enters it."""
    return Workdir.open(path, config.to_dict(), results.device(mesh))


def run_of(folder, config, mesh, phase="train", steps=4):
    """A workdir as a finished run of one phase leaves it."""
    with entered(folder, config, mesh):
        saved(folder / phase / "checkpoints", 2, steps)
    write_json(folder / phase / "done.json", {"steps": steps})
    return folder


def test_handed_over_from_a_phase_or_a_workdir(tmp_path, config, mesh):
    other = run_of(tmp_path / "other", config, mesh)
    assert handover.handed_over("scratch", ("encoder",), tmp_path) is None
    expected = tree(4, seed=4)["state"]
    for start_from, workdir in ((str(other), tmp_path), ("train", other)):
        initial = handover.handed_over(start_from, ("encoder",), workdir)
        assert_same(
            initial,
            {
                "params": {"encoder": jax.device_get(expected.params["encoder"])},
                "batch_stats": {"encoder": {"mean": np.zeros(3, np.float32)}},
            },
        )
    both = handover.handed_over("train", ("encoder", "head"), other)
    assert set(both["params"]) == {"encoder", "head"}


def test_a_teacher_is_what_is_handed_over(tmp_path, config, mesh):
    made = tree(4)
    average = jax.tree.map(lambda leaf: leaf / 2, made["state"].params)
    state = made["state"].replace(extra={"ema": average, "seen": jnp.ones(3)})
    with entered(tmp_path / "run", config, mesh):
        with Checkpoints(tmp_path / "run" / "train" / "checkpoints") as checkpoints:
            checkpoints.save(4, made | {"state": state})
    write_json(tmp_path / "run" / "train" / "done.json", {"steps": 4})
    given = handover.handed_over("train", ("encoder", "head"), tmp_path / "run")
    assert_same(given["params"], jax.device_get(average))


def test_handed_over_what_is_not_there(tmp_path, config, mesh):
    other = run_of(tmp_path / "other", config, mesh)
    with pytest.raises(UserError, match=r"\['neck'\].*\['encoder', 'head'\]"):
        handover.handed_over("train", ("neck",), other)
    with pytest.raises(UserError, match="'pretrain' is neither"):
        handover.handed_over("pretrain", ("encoder",), other)
    (other / "train" / "done.json").unlink()
    with pytest.raises(UserError, match="finished run"):
        handover.handed_over(str(other), ("encoder",), tmp_path)


def test_nothing_is_handed_over_from_a_run_that_has_only_begun(tmp_path, config, mesh):
    """Of whose phases one is over, and the others are not there yet."""
    config.phases = ("train", "other")
    config.other = config.train.copy_and_resolve_references()
    other = run_of(tmp_path / "other", config, mesh)
    with pytest.raises(UserError, match="trained several phases: name one, such as"):
        handover.handed_over(str(other), ("encoder",), tmp_path)


def test_handed_over_from_a_damaged_checkpoint(tmp_path, config, mesh):
    """To go on from an earlier one, that phase must be trained to its end again."""
    other = run_of(tmp_path / "other", config, mesh)
    truncate(other / "train" / "checkpoints", 4)
    with pytest.raises(UserError, match="every later one and .*done.json"):
        handover.handed_over("train", ("encoder",), other)
    shutil.rmtree(other / "train" / "checkpoints" / "4")
    with pytest.raises(UserError, match="trained for 4 steps, .* of step 2: delete"):
        handover.handed_over("train", ("encoder",), other)
