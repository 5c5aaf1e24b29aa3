"""What torch.save writes, read without PyTorch and without running any of it."""

import collections
import os
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import torch_files
from torch_files import Tensor

from ssl_jax.errors import UserError
from ssl_jax.models.pretrained import torch_file

FORMS = pytest.mark.parametrize("older", [False, True], ids=["zip", "older"])


@FORMS
def test_reads_what_was_saved(tmp_path, older):
    floats = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    flat = np.arange(10, dtype=np.float32)
    state = collections.OrderedDict(
        weight=Tensor(floats),
        parameter=Tensor(floats, parameter=True),
        turned=Tensor(floats.T, base=floats),
        part=Tensor(flat[2:8:2], base=flat),
        other=Tensor(flat[5:], base=flat),
        half=Tensor(floats.astype(np.float16)),
        brain=Tensor(floats.astype(np.dtype(jnp.bfloat16))),
        count=Tensor(np.array(7)),
        mask=Tensor(np.array([True, False])),
    )
    state._metadata = {"": {"version": 1}}  # as PyTorch sets on it
    saved = {"state_dict": state, "epoch": 3, "names": ["a", None, 0.5]}
    torch_files.save(tmp_path / "a.pth", saved, older=older)
    read = torch_file.read(tmp_path / "a.pth")
    assert (read["epoch"], read["names"]) == (3, ["a", None, 0.5])
    assert read["state_dict"].keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(read["state_dict"][name], tensor.array)
        assert read["state_dict"][name].dtype == tensor.array.dtype


class _Runs:
    def __init__(self, call, *args):
        self.how = (call, args)

    def __reduce__(self):
        return self.how


@FORMS
@pytest.mark.parametrize("which", range(4))
def test_a_malicious_file_runs_nothing(tmp_path, which, older):
    ran, path = str(tmp_path / "ran"), tmp_path / "a.pth"
    weight = Tensor(np.ones(2, np.float32))
    evil = (
        _Runs(os.system, f"touch {ran}"),
        _Runs(eval, f"open({ran!r}, 'w')"),
        _Runs(open, ran, "w"),
        {"weight": weight, "more": [_Runs(os.mkdir, ran)]},
    )
    torch_files.save(path, evil[which], older=older)
    with pytest.raises(UserError, match=r"a\.pth' asks for .*nothing of it was run"):
        torch_file.read(path)
    assert not os.path.exists(ran)


@pytest.mark.parametrize(
    "pickled",
    [
        # a name with a dot in it, which pickle looks up step by step
        b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x04true\x85R.",
        b"cbuiltins\nexec\n(S'1'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        # attributes set on what may be called
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x01\x00\x00\x00aK\x01sb.",
    ],
)
def test_no_other_way_of_a_pickles_runs_anything(tmp_path, pickled):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as zipped:
        zipped.writestr("a/data.pkl", pickled)
    with pytest.raises(UserError, match="asks for .*nothing of it was run"):
        torch_file.read(tmp_path / "a.pth")


@FORMS
def test_a_file_that_is_cut_off_is_told(tmp_path, older):
    path = tmp_path / "a.pth"
    torch_files.save(path, {"w": Tensor(np.ones(99, np.float32))}, older=older)
    whole = path.read_bytes()
    for length in (0, 1, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"is no whole file by torch.save .* again"):
            torch_file.read(path)


def test_a_list_of_lists_many_times_over_is_read_once(tmp_path):
    """10^20 places in some hundred bytes; and a list within itself ends."""
    many, itself = [Tensor(np.ones(1, np.float32))], []
    for _ in range(20):
        many = [many] * 10
    torch_files.save(tmp_path / "a.pth", {"w": many}, older=True)
    read = torch_file.read(tmp_path / "a.pth")["w"]
    for _ in range(21):
        read = read[-1]
    np.testing.assert_array_equal(read, [1])
    itself.append(itself)
    torch_files.save(tmp_path / "b.pth", itself)
    with pytest.raises(UserError, match="is no whole file by torch.save"):
        torch_file.read(tmp_path / "b.pth")


def test_what_is_no_such_file_is_told(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="is no whole file by torch.save"):
        torch_file.read(path)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        torch_file.read(tmp_path / "b.pth")


def test_a_tensor_reads_its_own_storage_alone(tmp_path):
    numbers = np.arange(4, dtype=np.float32)
    for size, stride in (((5,), (1,)), ((2**40,), (0,)), ((2, 2), (3, 1))):
        storage = torch_file.Storage("0", np.float32, 4)
        tensor = torch_file.Tensor(storage, 0, size, stride)
        with pytest.raises(ValueError, match="larger than its storage"):
            torch_file._array(tensor, numbers)
    torch_files.save(tmp_path / "a.pth", {"w": Tensor(numbers)})
    with zipfile.ZipFile(tmp_path / "a.pth") as zipped:
        content = {name: zipped.read(name) for name in zipped.namelist()}
    for one in content.keys() - {"archive/version"}:  # which nobody reads
        with zipfile.ZipFile(tmp_path / "b.pth", "w") as zipped:
            for name, each in content.items():
                how = zipfile.ZIP_DEFLATED if name == one else zipfile.ZIP_STORED
                zipped.writestr(name, each, how)
        with pytest.raises(UserError, match="it is compressed"):
            torch_file.read(tmp_path / "b.pth")
