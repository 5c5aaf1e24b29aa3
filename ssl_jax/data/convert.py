"""Converts a copy that TensorFlow Datasets prepared to array_record.

    python -m ssl_jax.data.convert ~/tensorflow_datasets/mnist/3.0.1 [NEW_DATA_DIR]

With one folder, array_record files are added to it and the old ones stay; with two, the
copy is written below the second, which must not be the first's own data folder. (tfds'
own `tfds convert_format` needs Apache Beam, and loses the class names on its way to
another folder.) Imports TensorFlow, which reads the old format.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from ssl_jax.data.sources import tfds_prepare
from ssl_jax.errors import UserError

_INFO = "dataset_info.json"


def convert(source: Path, new_data_dir: Path | None = None) -> Path:
    """Writes array_record files for the version folder `source`; where they are.

    The new form is announced in dataset_info.json only when all files are there.

    Raises:
      UserError: `source` is no version folder of a prepared data set.
    """
    tfds_prepare.quiet_tensorflow()
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import file_adapters

    if not (source / _INFO).exists():
        raise UserError(
            f"{source} has no {_INFO}: give a folder such as "
            "~/tensorflow_datasets/mnist/3.0.1."
        )
    info = json.loads((source / _INFO).read_text())
    target = source
    if new_data_dir:
        target = new_data_dir.joinpath(
            *filter(None, [info["name"], info.get("configName"), info["version"]])
        )
        target.mkdir(parents=True, exist_ok=True)
    builder = tfds.builder_from_directory(source)
    adapters = file_adapters.ADAPTER_FOR_FORMAT
    old, new = (
        adapters[file_adapters.FileFormat(form)]
        for form in (builder.info.file_format, "array_record")
    )
    for split in builder.info.splits.values():
        for path in map(Path, split.filepaths):
            name = path.name.replace(f".{old.FILE_SUFFIX}-", f".{new.FILE_SUFFIX}-")
            partial = target / f"incomplete.{name}"
            records = old.make_tf_data(path).as_numpy_iterator()
            new.write_examples(partial, enumerate(records))
            partial.rename(target / name)
    if target == source:
        info.setdefault("alternativeFileFormats", []).append("array_record")
    else:
        info["fileFormat"] = "array_record"
        for path in [*source.glob("*.json"), *source.glob("*.txt")]:
            if path.name != _INFO:
                shutil.copy(path, target)
    partial = target / f"incomplete.{_INFO}"
    partial.write_text(json.dumps(info, indent=2))
    os.replace(partial, target / _INFO)
    return target


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        print(convert(*(Path(arg).expanduser().absolute() for arg in sys.argv[1:])))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
