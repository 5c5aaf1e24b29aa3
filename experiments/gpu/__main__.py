"""python -m experiments.gpu --do=all: as experiments/gpu.sh calls it.

Imports nothing but absl at its start: what else is missing, `machine` has to say.
"""

import json
import os
import sys
from pathlib import Path

from absl import flags

from experiments import command
from experiments.gpu import machine, parts
from ssl_jax.errors import UserError

OTHERS = ("bring", "check", "all")


def define_flags(to: flags.FlagValues) -> None:
    text = "parts, with commas between; or bring, check or all"
    flags.DEFINE_list("do", "all", text, to)
    flags.DEFINE_bool("debug", False, "rehearse it all, small, on a CPU", to)
    flags.DEFINE_float("minutes", 9.5, "of all parts together", flag_values=to)
    flags.DEFINE_list("methods", "fixmatch,flexmatch", "of race", to)
    flags.DEFINE_list("labels", "4000,250,40", "of race", to)
    text = "of a whole run of race, over several calls; 0: as long as this one"
    flags.DEFINE_float("of_minutes", 0.0, text, flag_values=to)
    flags.DEFINE_string("brought", "gpu_bring", "what `bring` made", to)
    flags.DEFINE_string("data_dir", "", "of bring: has cifar10 and Cora", to)
    flags.DEFINE_string("python", "3.12", "of bring: the other machine's", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    chosen = given.do
    if chosen == ["bring"]:
        from experiments.gpu import bring  # which imports what is there at home alone

        bring.bring(given.data_dir, given.python)
        return
    if chosen in (["all"], ["check"]):
        chosen = list(parts.PARTS)
    if unknown := sorted(set(chosen) - parts.PARTS.keys()):
        raise UserError(
            f"{', '.join(unknown)} is no part; there are: {', '.join(parts.PARTS)}; "
            f"and {', '.join(OTHERS)}."
        )
    brought = Path(given.brought)
    needs = [need for name in chosen for need in parts.PARTS[name].needs]
    found = machine.check(needs, brought, debug=given.debug)
    print(f"machine: {json.dumps(found)}", flush=True)
    if given.do == ["check"]:
        return
    asked = parts.Asked(
        minutes=given.minutes,
        debug=given.debug,
        results=Path(os.environ.get("OUT") or "results"),
        brought=brought,
        methods=given.methods,
        labels=given.labels,
        of_minutes=given.of_minutes,
    )
    if wrong := parts.run(chosen, asked):
        lines = "\n".join(f"  {line}" for line in wrong)
        print(f"gpu: not all went well:\n{lines}", file=sys.stderr)
        sys.exit(1)
    print(f"gpu: all went well; results are in {asked.results}")


if __name__ == "__main__":
    command.start("gpu", run, define_flags)
