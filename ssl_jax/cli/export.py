"""A run's network in files of its own, for where there is no ssl_jax.

exported.zip           the classifier as a program of jax.export's, and what it says
exported.py            ten lines that run it where JAX and NumPy are installed
NAME.safetensors       or its encoder's tensors, for PyTorch or anything else
NAME.json              and what their axes are
"""

import importlib.metadata
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_jax.cli import new_images
from ssl_jax.errors import UserError
from ssl_jax.train import classifier, exported, sections
from ssl_jax.train.classifier import Classifier
from ssl_jax.workdir import results
from ssl_jax.workdir.files import expanded, replacing
from ssl_jax.workdir.workdir import Workdir

_MARK = "exported by ssl_jax"  # in each file, which is replaced only if it has it
_SEARCHED = 2**16  # bytes of either end that are looked through for that
SCRIPT = '''\
"""python {name}.py images.npy: what {name}.zip says of them, a line each.

Images are uint8 [B, {H}, {W}, {C}], grey levels 0 to 255. It needs JAX and NumPy.
{mark}.
"""
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from jax import export

FILE = Path(__file__).with_suffix(".zip")
sys.path.append(str(FILE))  # JAX reads programs by flatbuffers: it is in there
with zipfile.ZipFile(FILE) as file:
    ABOUT = json.loads(file.read("about.json"))
    PROGRAM = export.deserialize(bytearray(file.read("program.bin")))

def predict_proba(images):
    return np.asarray(PROGRAM.call(images))  # [B, classes]

if __name__ == "__main__":
    for probs in predict_proba(np.load(sys.argv[1])):
        print(ABOUT["classes"][probs.argmax()], *probs, sep="\\t")
'''


def write(config: Mapping[str, Any], path: Path) -> None:
    """Exports what the run in the workdir `path` has learned into `config.predict.out`,
    a .zip or a .safetensors, and what belongs to it beside that. Without that field it
    is exported.zip in the workdir.

    Raises:
      UserError: the run is not trained to its end, has no classifier or encoder, or a
        file cannot be written or is another.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    given = wanted.predict.out or str(workdir.path / "exported.zip")
    file = expanded(given)
    files_of = {".zip": _program, ".safetensors": _encoder}.get(file.suffix)
    if files_of is None:
        raise UserError(
            f"config.predict.out={given!r}: --mode=export writes a .zip, the whole "
            "classifier to run by JAX, or a .safetensors, its encoder's weights."
        )
    asked = classifier.of_run(wanted, workdir)
    files = dict(files_of(asked, _about(asked), file))
    for each in files:
        new_images.out(str(each), "export of ssl_jax's", _is_ours)
    for each, content in files.items():
        try:
            with replacing(each, "wb") as opened:
                opened.write(content)
        except OSError as error:
            raise new_images.not_written(each, error) from error
    print(f"the phase {asked.phase!r} ({asked.method}), in\n{file}")
    print(*[each for each in files if each != file], sep="\n")


def _is_ours(path: Path) -> bool:
    content = path.read_bytes()
    mark = _MARK.encode()
    return mark in content[:_SEARCHED] or mark in content[-_SEARCHED:]


def _about(asked: Classifier) -> dict:
    """What it is, for whoever finds it."""
    return {
        "made": _MARK,
        "workdir": asked.workdir.name,
        "phase": asked.phase,
        "method": asked.method,
        "step": int(asked.state.step),
        "classes": list(asked.class_names),
        "shape": list(asked.shape),
        "versions": results.versions(),
    }


def _program(
    asked: Classifier, about: dict, file: Path
) -> Iterator[tuple[Path, bytes]]:
    about |= {
        "images": f"uint8, {new_images.form(asked.shape)}",
        "platforms": exported.PLATFORMS,
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr("about.json", json.dumps(about, indent=1))
        zipped.writestr("program.bin", exported.program(asked))
        for name, text in _flatbuffers():
            zipped.writestr(name, text)
        zipped.comment = _MARK.encode()
    yield file, content.getvalue()
    H, W, C = asked.shape
    script = SCRIPT.format(name=file.stem, H=H, W=W, C=C, mark=_MARK)
    yield file.with_suffix(".py"), script.encode()


def _flatbuffers() -> Iterator[tuple[str, bytes]]:
    """By which jax.export reads what it has written, and which JAX does not bring: a
    few files of Python, with what says whose they are."""
    for file in importlib.metadata.files("flatbuffers"):
        if file.suffix == ".py" or file.name == "METADATA":
            yield str(file), file.read_binary()


def _encoder(
    asked: Classifier, about: dict, file: Path
) -> Iterator[tuple[Path, bytes]]:
    import safetensors.numpy  # here because nothing else needs it

    tensors, layout = exported.encoder(asked)
    yield file, safetensors.numpy.save(tensors, {"made": _MARK})
    text = json.dumps(about | layout, indent=1)
    yield file.with_suffix(".json"), text.encode()
