"""A search's memory: optuna's study, in a file of the workdir.

Every trial and every figure of one is written when it is known, and so is what else a
search has found out and how long it took: killed, it goes on from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.tuning.space import Number, Space
from ssl_jax.workdir import policy

PARTS = 9  # of a trial: it is judged after 1, 3 and 9 of them
FACTOR = 3  # and goes on as one of the best third of those judged there
_STARTUP = 6  # trials drawn at random, before others are drawn by how those went
_WORST = 10.0  # nats: a loss above is no worse


def figure(accuracy: float, loss: float) -> float:
    """What is maximised: the accuracy on the images held out. Few images give many
    equal ones, of which that with the lower cross-entropy is the greater."""
    return accuracy - min(loss, _WORST) / 1e4


class Study:
    """The search in the folder `path`, whose lock the caller has: a place, like it.

    Args:
      name: where several phases are searched for, that of this one's.
    """

    def __init__(self, path: Path, seed: int, name: str = "tune"):
        """Raises: UserError: there is no optuna."""
        try:
            import optuna  # takes a second, which no other run need pay
        except ImportError as error:
            raise UserError("--mode=tune needs optuna: pip install optuna.") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._seed, file = optuna, seed, path / policy.SEARCH
        _cut(file)
        backend = optuna.storages.journal.JournalFileBackend(str(file), _Alone())
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=FACTOR
            ),
        )

    @staticmethod
    def begun(path: Path) -> bool:
        return (path / policy.SEARCH).exists()

    def known(self, what: str, default: Any = None) -> Any:
        """What was noted, as JSON gives it back."""
        return self._study.user_attrs.get(what, default)

    def note(self, what: str, value: Any) -> None:
        self._study.set_user_attr(what, value)

    def ask(self, space: Space) -> tuple[Any, dict[str, Any]]:
        """(a trial, the value that it takes of each field): of those queued, or else as
        a sampler says, by the trials so far and the seed alone."""
        number = len(self.trials)
        self._study.sampler = self._optuna.samplers.TPESampler(
            seed=self._seed + number, n_startup_trials=_STARTUP
        )
        trial = self._study.ask()
        return trial, {field: _suggest(trial, field, space[field]) for field in space}

    def queue(self, chosen: Mapping[str, Any], space: Space, **notes: Any) -> None:
        """Has these values tried next, each as near as its range allows."""
        near = {
            field: min(max(value, space[field].low), space[field].high)
            if isinstance(space[field], Number)
            else value
            for field, value in chosen.items()
            if field in space
        }
        self._study.enqueue_trial(near, user_attrs=notes)

    def again(self) -> int:
        """Queues the trials that a killed launch left under way; how many."""
        state = self._optuna.trial.TrialState
        left = self._study.get_trials(states=(state.RUNNING,))
        for trial in left:
            self._study.tell(trial.number, state=state.FAIL)
            # What it had been drawn, of fields that it may not have got to.
            self._study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
        return len(left)

    def tell(self, trial: Any, value: float) -> None:
        self._study.tell(trial, value)

    def prune(self, trial: Any) -> None:
        self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)

    def drop(self, trial: Any) -> None:
        """It came to no end, and says nothing of its settings."""
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    @property
    def waiting(self) -> list:
        """Those that are queued."""
        state = self._optuna.trial.TrialState.WAITING
        return self._study.get_trials(states=(state,))

    @property
    def trials(self) -> list:
        """Those that are over: to their end, or pruned."""
        state = self._optuna.trial.TrialState
        return self._study.get_trials(states=(state.COMPLETE, state.PRUNED))

    @property
    def has_own(self) -> bool:
        """Whether the config's own settings were trained to their end."""
        return any(trial.user_attrs.get("own") for trial in self.best)

    @property
    def best(self) -> list:
        """Those trained to their end, the best first."""
        state = self._optuna.trial.TrialState
        ended = self._study.get_trials(states=(state.COMPLETE,))
        return sorted(ended, key=lambda trial: -trial.value)


class _Alone:
    """A lock for optuna's file: whoever writes it has the workdir's."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _cut(file):
    """Takes away a last line that a killed process left half-written."""
    if not file.exists():
        return
    with file.open("rb+") as opened:
        whole = opened.read().rfind(b"\n") + 1
        opened.truncate(whole)


def _suggest(trial, field, choice):
    if isinstance(choice, Number):
        return trial.suggest_float(field, choice.low, choice.high, log=choice.log)
    return trial.suggest_categorical(field, choice.values)
