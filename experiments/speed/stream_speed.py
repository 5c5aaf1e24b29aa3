"""Does a run whose images stay in their files keep up with one that has them in memory?

python -m experiments.speed.stream_speed [--dir=DIR] [--keep=cpu]
    [--parts=rate,decoding,jpegs,memory]

rate: steps of configs/mnist.py with data.placement "device" and "stream", from MNIST's
array_record files, in alternated rounds: each round takes the feed from its beginning,
so that what a stream costs before its first step counts. Beside it the CPU seconds of a
step. decoding: what a step's images cost alone, by grain's threads and by grain's
processes. jpegs: 3,000 made JPEG files of 200 to 500 pixels a side, opened for their
sizes, and brought to 256. memory: what the process holds over 2,000 streamed steps of
configs/mnist.py:supervised with a smaller network, and how many threads are left then.

With --keep, lines of experiments/results/stream_speed.jsonl: rate_cpu, and so on.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from PIL import Image

from configs import mnist
from experiments import jobs, readme
from ssl_jax import core
from ssl_jax.cli import process
from ssl_jax.data import sources, streams
from ssl_jax.data.wanted import Wanted
from ssl_jax.train import phases
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import results

PLACES = ("device", "stream")
MEMORY_AT = (200, 500, 1_000, 1_500, 2_000)  # steps


def _built(words: str, folder: str, place: str, **model):
    """configs/mnist.py's phase, its images where `place` says, and its data."""
    config = mnist.get_config(words)
    config.model.update(model)
    config.data.update(dir=folder, placement=place)
    return phases.prepared(config, "train", core.make_mesh())


def stepping(phase):
    """A function: (first, steps) -> (seconds, CPU seconds) of so many steps."""
    program = compile_phase(phase)
    carry = [program.state, program.sums]

    def run(first, steps):
        began, cpu_began = time.perf_counter(), time.process_time()
        for item in phase.feed.items(first, first + steps):
            carry[:] = program.call(*carry, phase.feed.arrays, item)
        jax.block_until_ready(carry)
        return time.perf_counter() - began, time.process_time() - cpu_began

    return run


def rate(folder: str, steps: int, rounds: int) -> dict:
    """Milliseconds of a step by placement, and the stream's rate over the device's."""
    built = {place: _built("", folder, place)[0] for place in PLACES}
    mesh = built["device"].mesh
    with jax.set_mesh(mesh):
        runs = {place: stepping(phase) for place, phase in built.items()}
        for run in runs.values():
            run(0, 2)
        measured = {place: [] for place in PLACES}
        for i in range(rounds):
            for place in PLACES if i % 2 else PLACES[::-1]:
                measured[place].append(runs[place](steps * (i + 1), steps))
    wall = {place: [s for s, _ in measured[place]] for place in PLACES}
    ratios = [a / b for a, b in zip(wall["device"], wall["stream"], strict=True)]
    median = statistics.median
    return {
        "images_per_step": built["device"].images_per_step,
        "step_ms": {p: _ms(median(wall[p]) / steps) for p in PLACES},
        "cpu_ms": {
            p: _ms(median(cpu for _, cpu in measured[p]) / steps) for p in PLACES
        },
        "ratio": round(median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "steps": steps,
    }


def decoding(folder: str, steps: int = 60) -> dict:
    """Milliseconds in which a step's images are decoded, and nothing else done: by 1
    and 2 of grain's threads, and of its processes once these have begun."""
    import grain

    flags.FLAGS.mark_as_parsed()  # grain's processes ask for their flags
    images_NHWC = _built("supervised", folder, "stream")[1].dataset.images_NHWC
    rng = np.random.default_rng(0)
    indices = rng.integers(0, len(images_NHWC), (steps, 256))
    found = {}
    for workers in (1, 2):
        images_NHWC.workers = workers
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in streams.gathered(images_NHWC, indices):
            pass
        found[f"{workers} threads"] = {
            "step_ms": _ms((time.perf_counter() - began) / steps),
            "cpu_ms": _ms((time.process_time() - cpu_began) / steps),
        }
        read = grain.MapDataset.source(_Steps(images_NHWC, indices)).to_iter_dataset(
            grain.ReadOptions(1, 1)
        )
        began = time.perf_counter()
        read = iter(read.mp_prefetch(grain.MultiprocessingOptions(workers, 1)))
        for _ in range(10 * workers):  # with what was read ahead as others began
            next(read)
        start, began = time.perf_counter() - began, time.perf_counter()
        rest = sum(1 for _ in read)
        found[f"{workers} processes"] = {
            "step_ms": _ms((time.perf_counter() - began) / rest),
            "start_seconds": round(start, 1),
        }
    return {"images_per_step": 256, "workers": found}


class _Steps:
    """Each step's images, as a source of grain's that a process can be sent."""

    def __init__(self, images_NHWC, indices):
        self._images_NHWC, self._indices = images_NHWC, indices

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, step):
        return self._images_NHWC[self._indices[step]]


def jpegs(count: int = 3_000, read: int = 600) -> dict:
    """A made folder of photographs' sizes: what opening it takes, and decoding."""
    with tempfile.TemporaryDirectory() as root:
        rng = np.random.default_rng(0)
        for i in range(count):
            path = Path(root, f"class_{i % 10}", f"{i}.jpg")
            path.parent.mkdir(exist_ok=True)
            height, width = (int(side) for side in rng.integers(200, 501, 2))
            # As smooth as a photograph is: it grows from a few pixels.
            small_HWC = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
            image = Image.fromarray(small_HWC).resize((width, height))
            image.save(path, quality=90)
        how = dict(name="folder", dir=root, image_size=256, placement="stream")
        began = time.perf_counter()
        images_NHWC = sources.read(Wanted(**how)).images_NHWC
        found = {"files": count, "opening_seconds": time.perf_counter() - began}
        indices = rng.integers(0, count, (read // 60, 60))
        for workers in (1, 2):
            images_NHWC.workers = workers
            began, cpu_began = time.perf_counter(), time.process_time()
            for _ in streams.gathered(images_NHWC, indices):
                pass
            found[f"{workers} threads"] = {
                "images_per_second": round(read / (time.perf_counter() - began)),
                "cpu_ms_an_image": _ms((time.process_time() - cpu_began) / read),
            }
    return {**found, "opening_seconds": round(found["opening_seconds"], 2)}


def memory(folder: str) -> dict:
    """Megabytes that the process holds after so many streamed steps."""
    # Small, for 2,000 steps in a minute.
    phase, _ = _built("supervised", folder, "stream", filters=(8, 16, 16))
    threads, held = threading.active_count(), {}
    with jax.set_mesh(phase.mesh):
        program = compile_phase(phase)
        carry = program.state, program.sums
        items = phase.feed.items(0, MEMORY_AT[-1])
        for step, item in enumerate(items, start=1):
            carry = program.call(*carry, phase.feed.arrays, item)
            if step in MEMORY_AT:
                jax.block_until_ready(carry)
                held[step] = round(_held() / 2**20, 1)
    time.sleep(1)  # threads end with the piece that they are at
    return {
        "images_per_step": phase.images_per_step,
        "held_MiB": held,
        "threads_left": threading.active_count() - threads,
    }


def _held():
    """Bytes of memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _ms(seconds):
    return round(1000 * seconds, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", default="", help="with mnist/3.0.1 in array_record")
    parser.add_argument("--parts", default="rate,decoding,jpegs,memory")
    parser.add_argument("--steps", type=int, default=30, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", default="", help="the device, to keep results by")
    parser.add_argument("--results", type=Path, default=readme.RESULTS, help="folder")
    args = parser.parse_args()
    parts = {
        "rate": lambda: rate(args.dir, args.steps, args.rounds),
        "decoding": lambda: decoding(args.dir),
        "jpegs": jpegs,
        "memory": lambda: memory(args.dir),
    }
    process.set_up(mnist.get_config(""))  # as launch.py does
    for part in args.parts.split(","):
        measured = {
            **parts[part](),
            "device": results.device(core.make_mesh()),
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 2),
            "versions": results.versions(),
            "git": results.git_state(),
        }
        name = f"{part}_{args.keep}" if args.keep else ""
        jobs.keep("stream_speed", name, measured, args.results)


if __name__ == "__main__":
    main()
