"""``search``: settings of a configuration, chosen by Optuna; every trial is an ordinary run."""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdlight.commands import train
from kdlight.commands.parsing.arguments import Parser, positive, seed
from kdlight.commands.shared.folders import check_name, checkpoints, give_back, newest_checkpoint
from kdlight.errors import InputError
from kdlight.report.columns import UNKNOWN, column
from kdlight.storage.files import read_json, write_json
from kdlight.storage.text import read_text
from kdlight.storage.yaml_text import check_yaml, load_yaml

OWN = ("config", "name", "runs_dir", "ckpt_path", "trainer.devices")
"""Keys that every trial is given by its search."""
STUDY, RESULT = "study.journal", "search.json"
FORM = "a list of values, or {low, high} with `log: true` where it goes over orders of magnitude"


def parser() -> Parser:
    """The options of ``search``."""
    made = Parser(
        "search",
        "Choose settings by training: every trial is a run of the configuration, on one device, "
        "with values that Optuna proposes (a tree of Parzen estimators), and is judged by a figure "
        "of its summary.json. A search that was stopped goes on with the same command, its "
        "half-trained run included. The winner's figure is the best of many and looks better than "
        "it is: train it anew on other seeds.",
        "search --config configs/oracle/representations.yaml --space space.yaml "
        "--metric golden_kl --trials 20",
    )
    made.add_argument("--config", type=Path, nargs="+", required=True, help="as for fit")
    made.add_argument(
        "--space",
        type=Path,
        required=True,
        help=f"YAML: for every dotted key that is searched {FORM}",
    )
    made.add_argument("--metric", required=True, help="figure of summary.json that is judged")
    made.add_argument("--model", default="student", help="whose row of summary.json")
    made.add_argument(
        "--goal",
        choices=("lower", "higher"),
        default=None,
        help="which is better, for a metric of your own (default: what kdlight knows of it)",
    )
    made.add_argument("--trials", type=positive, default=20, help="in all, those before included")
    made.add_argument("--seed", type=seed, default=0, help="seed of the proposals")
    made.add_argument("--name", default="search", help="name of the search's folder")
    made.add_argument("--runs_dir", type=Path, default=Path("runs"), help="where it goes")
    return made


def run(verb: str, argv: Sequence[str]) -> None:
    """Run ``search``."""
    options = parser().parse_args(argv)
    optuna = _optuna()
    space = read_space(options.space)
    goal = _goal(options.metric, options.goal)
    for path in options.config:
        read_text(path)
    folder = options.runs_dir / check_name(options.name)
    asked = {
        "config": [str(path) for path in options.config],
        "space": space,
        "metric": [options.model, options.metric, goal],
    }
    study = _study(optuna, folder, asked, goal)
    search = _Search(optuna, study, folder, options)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        search.train(trial.number, trial.params)
    laws = {key: _law(optuna, values) for key, values in space.items()}
    while (number := len(study.trials)) < options.trials:
        # A seed of its own for every trial: one that goes on proposes what it would have.
        study.sampler = optuna.samplers.TPESampler(seed=(options.seed + number) % 2**32)
        search.train(number, study.ask(laws).params)
    print(search.written())


class _Search:
    """Trains the trials of a study and tells it what they were worth."""

    def __init__(self, optuna: Any, study: Any, folder: Path, options: Any) -> None:
        self.optuna, self.study, self.folder, self.options = optuna, study, folder, options

    def train(self, number: int, values: Mapping[str, Any]) -> None:
        """One trial, from where it was stopped."""
        words = [word for path in self.options.config for word in ("--config", str(path))]
        words += [f"--{key}={_word(value)}" for key, value in values.items()]
        words += ["--runs_dir", str(self.folder), "--name", f"trial_{number}"]
        # Other processes would be started as this one was: as searches.
        words += ["--trainer.devices", "1"]
        place = self.folder / f"trial_{number}"
        if any(checkpoints(place)):
            words += ["--ckpt_path", str(newest_checkpoint(place, "search"))]
        print(f"trial {number}: {json.dumps(values)}")
        failed = self.optuna.trial.TrialState.FAIL
        try:
            train.run("fit", words)
        except (InputError, RuntimeError, ArithmeticError) as error:
            self.study.tell(number, state=failed)
            if isinstance(error, InputError) and number == 0:  # a key or a path, not a value
                (self.folder / STUDY).unlink()
                give_back(place)
                raise
            print(f"trial {number} failed: {error}")
            return
        try:
            value = self._value(place)
        except InputError:
            self.study.tell(number, state=failed)
            raise
        if value is None:
            self.study.tell(number, state=failed)
            print(f"trial {number} failed: its {self.options.metric} is not finite.")
        else:
            self.study.tell(number, value)

    def _value(self, place: Path) -> float | None:
        """The figure of a finished trial; None where it is not finite."""
        metric, model = self.options.metric, self.options.model
        written = sorted(place.glob("version_*/summary.json"))
        rows = read_json(written[-1]) if written else []
        own = [row for row in rows if row.get("model") == model]
        if not own:
            known = ", ".join(dict.fromkeys(str(row.get("model")) for row in rows)) or "no rows"
            raise InputError(f"--model: expected one of {known}, found {model!r}.")
        if not any(metric in row for row in own):
            known = ", ".join(key for key, value in own[0].items() if isinstance(value, float))
            raise InputError(f"--metric: expected a figure of the runs ({known}), found {metric}.")
        value = next(row[metric] for row in own if metric in row)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def written(self) -> Path:
        """The file of all trials, the best first."""
        done = [trial for trial in self.study.trials if trial.value is not None]
        if not done:
            raise InputError(
                f"{self.folder}: expected a trial that ends in a finite "
                f"{self.options.metric}, found none."
            )
        sign = -1 if self.study.direction == self.optuna.study.StudyDirection.MAXIMIZE else 1
        done.sort(key=lambda trial: sign * trial.value)
        rows = [
            {
                "trial": trial.number,
                self.options.metric: trial.value,
                "run": f"trial_{trial.number}",
                "settings": trial.params,
            }
            for trial in done
        ]
        for row in rows[:5]:
            print(f"{row[self.options.metric]:.4g}  {row['run']}  {json.dumps(row['settings'])}")
        write_json(self.folder / RESULT, rows)
        return self.folder / RESULT


def read_space(path: Path) -> dict[str, Any]:
    """What is searched, by dotted key.

    Raises:
        InputError: The file is missing or no YAML, or a key has no values to choose from.
    """
    text = read_text(path)
    try:
        check_yaml(text)
        space = load_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: expected YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(space, dict) or not space:
        raise InputError(f"{path}: expected dotted keys, each with {FORM}.")
    space = {str(key): _with_numbers(values) for key, values in space.items()}
    for key, values in space.items():
        if key in OWN:
            raise InputError(f"{path}: {key}: expected a key that the search does not set itself.")
        if not (_is_list(values) or _is_range(values)):
            raise InputError(f"{path}: {key}: expected {FORM}, found {values!r}.")
    return space


def _is_list(values: Any) -> bool:
    plain = bool | int | float | str | None
    return isinstance(values, list) and values != [] and all(isinstance(v, plain) for v in values)


def _is_range(values: Any) -> bool:
    if not isinstance(values, dict) or not {"low", "high"} <= set(values) <= {"low", "high", "log"}:
        return False
    low, high, log = values["low"], values["high"], values.get("log", False)
    if not isinstance(log, bool) or any(type(end) not in (int, float) for end in (low, high)):
        return False
    return bool(-math.inf < low < high < math.inf and (low > 0 or not log))


def _with_numbers(values: Any) -> Any:
    """Ends of a range as numbers: YAML takes 1e-3, without a point, for text."""
    if not isinstance(values, dict):
        return values
    found = dict(values)
    for end in ("low", "high"):
        if isinstance(found.get(end), str):
            with contextlib.suppress(ValueError):
                found[end] = float(found[end])
    return found


def _law(optuna: Any, values: Any) -> Any:
    """Optuna's form of a key's values."""
    if isinstance(values, list):
        return optuna.distributions.CategoricalDistribution(values)
    low, high, log = values["low"], values["high"], values.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log)


def _goal(metric: str, goal: str | None) -> str:
    """Whether a lower or a higher figure is better.

    Raises:
        InputError: That is not known.
    """
    if goal is not None:
        return goal
    known = column(metric)
    if known.word == UNKNOWN:
        raise InputError(
            f"--metric: {metric} is no figure that kdlight knows; --goal lower or higher says "
            "which is better of one of your own."
        )
    better = known.better
    if better not in ("lower", "higher"):
        raise InputError(f"--metric: {metric} is neither better when lower nor when higher.")
    return better


def _study(optuna: Any, folder: Path, asked: dict[str, Any], goal: str) -> Any:
    """The study of a folder, begun or gone on with.

    Raises:
        InputError: It was begun with other settings, or its file is damaged.
    """
    path = folder / STUDY
    if not path.is_file() and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--name: {folder} holds something else than a search; name another.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal
    begun = path.is_file()
    try:
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
        if begun:
            study = optuna.load_study(study_name="search", storage=storage)
        else:
            direction = "minimize" if goal == "lower" else "maximize"
            study = optuna.create_study(study_name="search", storage=storage, direction=direction)
    except OSError:
        raise
    except Exception:  # whatever Optuna's reader raises on other lines than its own
        raise InputError(f"{path}: expected the study of a search, found a damaged file.") from None
    before = study.user_attrs.get("asked")
    if before is None:
        study.set_user_attr("asked", asked)
        return study
    for name, value in asked.items():
        if before.get(name) != value:
            raise InputError(
                f"{path}: was begun with {name} {json.dumps(before.get(name))}, found "
                f"{json.dumps(value)}; take another --name."
            )
    return study


def _word(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError(
            "search needs the package optuna: pip install 'kdlight[search]'."
        ) from None
    return optuna
