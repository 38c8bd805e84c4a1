"""A run's folder: what is written when it begins, and whether a run that goes on is the run that was begun."""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from gendercls.errors import ModelError, OutputError, UsageError
from gendercls.records import to_line
from gendercls.train.checkpoint import previous, save_text
from gendercls.train.events import EpochMetrics

_FREE = {
    "recipe": {"workers", "checkpoint_minutes", "epoch_line"},
    "run": {"data_folder", "photos_folder", "recipe_name"},
}
"""What may differ in a run that goes on: speed, looks and places."""


def default_run_folder(recipe_name: str) -> Path:
    """``runs/<time>-<recipe>``, in local time."""
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(recipe_name).stem}"


def check_run_folder(out: Path, resume: bool) -> None:
    """Make the folder, or find it. Raises UsageError, OutputError."""
    if resume and not out.is_dir():
        raise UsageError("there is no run to continue", where=str(out), do="name the run's folder with --out RUN")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the run's folder cannot be made: {error.strerror}", where=str(out), do="check it") from None
    if not os.access(out, os.W_OK):
        raise OutputError("the run's folder is not writable", where=str(out), do="choose another --out")
    last = out / "last.pt"
    if not resume and any(path.exists() for path in (last, previous(last), out / "best.pt")):
        raise OutputError(
            "the folder already holds a run",
            where=str(out),
            do="continue it with --resume, or choose another --out",
        )


def write_run_files(
    out: Path, recipe: dict[str, Any], record: dict[str, Any], split: Sequence[Sequence[str]], resume: bool
) -> None:
    """``recipe.toml`` and ``split.csv``. Raises ModelError when a run that goes on was begun otherwise."""
    content, path = {"recipe": recipe, "run": record}, out / "recipe.toml"
    if resume and path.exists():
        _check_same_run(path, content)
    save_text(path, tomli_w.dumps(content))
    save_text(out / "split.csv", "".join(map(to_line, split)))


def write_metrics(out: Path, history: Sequence[EpochMetrics]) -> None:
    """``metrics.jsonl``: one line an epoch."""
    save_text(out / "metrics.jsonl", "".join(json.dumps(asdict(metrics)) + "\n" for metrics in history))


def _check_same_run(path: Path, content: dict[str, Any]) -> None:
    """A run that goes on must be the run that was begun: same recipe, data, classes and seed."""
    try:
        begun = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the run's recipe cannot be read: {error}", where=str(path), do="choose another --out, and begin anew"
        ) from None
    now = tomllib.loads(tomli_w.dumps(content))
    for section, free in _FREE.items():
        was = begun.get(section, {})
        for key in [key for key in now[section] if key not in free]:
            if _differs(was.get(key), now[section][key]):
                raise ModelError(
                    f"the run was begun with another value of {key}",
                    where=f"{path} has {was.get(key)!r}, this command {now[section][key]!r}",
                    do="continue with the same options and data, or choose another --out",
                )


def _differs(was: Any, now: Any) -> bool:
    """Whether two recorded values differ; of two tables, in a key that both have, since later versions add some."""
    if isinstance(was, dict) and isinstance(now, dict):
        return any(_differs(was[key], now[key]) for key in was.keys() & now.keys())
    return bool(was != now)
