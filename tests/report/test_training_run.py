"""Reading a run's files: damage is named with file, key or line, and nothing that lies in them is a traceback."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gendercls.errors import GenderclsError, ModelError
from gendercls.report.charts import ticks
from gendercls.report.training_page import training_page
from gendercls.report.training_run import read_training_run

MakeRun = Callable[..., Path]
DO = "\n  do:    restore the file from a copy of the run, or train the run again"
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(run: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_training_run(run)
    return str(caught.value)


def with_result(run: Path, **values: Any) -> str:
    """The refusal of a run with other values in its result."""
    path = run / "result.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | values))
    try:
        return refusal(run)
    finally:
        path.write_text(whole)


def test_damage_in_the_result_names_the_key(make_run: MakeRun) -> None:
    """result.json: the key, what it should be and what stands there; a nested one with its way."""
    run = make_run()
    where = f"\n  where: {run}/result.json{DO}"
    test = {"count": 3, "total": 2}
    bins = {"error": 0.1, "reliability": [{"confidence": 0.5, "accuracy": 1.5, "count": 3}]}
    both = {"before": bins, "after": bins}
    assert with_result(run, test_loss="low") == f'test_loss should be a number, 0 or more, but is "low"{where}'
    for loss in (-1.5, float("nan"), float("inf")):
        assert with_result(run, test_loss=loss) == (
            f"test_loss should be a number, 0 or more, but is {json.dumps(loss)}{where}"
        )
    assert with_result(run, test=test) == f"test.count should be at most the total of 2, but is 3{where}"
    assert with_result(run, test=[]) == f"test should be a table, but is []{where}"
    assert with_result(run, confusion=[[1, 2]]) == f"confusion should be 2 rows of 2 counts, but is [[1, 2]]{where}"
    assert with_result(run, independent=1) == f"independent should be true or false, but is 1{where}"
    assert with_result(run, calibration=both) == (
        f"calibration.before.reliability[0].accuracy should be 0 to 1, but is 1.5{where}"
    )
    assert with_result(run, best={}) == f"best.epoch is missing{where}"
    assert with_result(run, format=[2, 0]) == (
        f"format should be [1, …], which this version of gendercls reads, but is [2, 0]{where}"
    )
    assert with_result(run, classes=["a", "b"]) == (
        f"result.json is of a run with other classes than recipe.toml\n  where: {run}{DO}"
    )
    (run / "result.json").write_text("{")
    assert refusal(run) == f"result.json is no JSON{where}"


def test_a_newer_minor_format_is_read(make_run: MakeRun) -> None:
    """A minor version only adds keys."""
    run = make_run()
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"format": [1, 7], "new": 1}))
    assert read_training_run(run).result is not None


def test_damage_in_the_recipe_names_the_key(make_run: MakeRun) -> None:
    """recipe.toml: what does not parse, what is missing, what makes no sense."""
    run = make_run()
    path = run / "recipe.toml"
    content = tomllib.loads(path.read_text())
    where = f"\n  where: {path}{DO}"
    path.write_text(tomli_w.dumps(content | {"recipe": content["recipe"] | {"fit": "bend"}}))
    assert refusal(run) == f"recipe.toml: fit is 'bend'; it must be one of crop, pad, squash{where}"
    path.write_text(tomli_w.dumps(content | {"run": content["run"] | {"classes": ["a=(", "b=Male"]}}))
    assert refusal(run) == (f"run.classes: the class rule does not parse: an attribute was expected here{where}")
    path.write_text(tomli_w.dumps({"recipe": content["recipe"]}))
    assert refusal(run) == f"run is missing{where}"
    path.write_text("size = ")
    assert refusal(run) == f"recipe.toml does not parse: Invalid value (at end of document){where}"


@pytest.mark.parametrize(
    ("name", "line", "text", "message"),
    [
        ("metrics.jsonl", 2, "{}", "epoch is missing"),
        ("metrics.jsonl", 2, "{", "metrics.jsonl is damaged: a line is no JSON"),
        ("metrics.jsonl", 1, '{"epoch": -1}', "epoch should be a whole number, 0 or more, but is -1"),
        ("split.csv", 1, "path,part", "split.csv is damaged: its columns are not path, split and the classes"),
        ("split.csv", 3, "a.jpg", "split.csv is damaged: 1 fields instead of 3"),
        ("predictions.csv", 1, "path", "predictions.csv is damaged: its columns are not those of this run's classes"),
        ("predictions.csv", 2, "a,test", "predictions.csv is damaged: 2 fields instead of 8"),
        (
            "predictions.csv", 2, "a,test,male,1.5,0,1,male,1",
            "predictions.csv is damaged: '1.5' is no probability",
        ),
        (
            "predictions.csv", 2, "a,test,mole,1,0,1,male,1",
            "predictions.csv is damaged: 'mole' is none of the classes",
        ),
        (
            "predictions.csv", 2, "a,test,male,1,0,1,,1",
            "predictions.csv is damaged: truth is '' and correct is '1'",
        ),
    ],
)  # fmt: skip
def test_damage_in_a_table_names_the_line(make_run: MakeRun, name: str, line: int, text: str, message: str) -> None:
    """metrics.jsonl, split.csv and predictions.csv: the file and the line."""
    run = make_run()
    path = run / name
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    assert refusal(run) == f"{message}\n  where: {path}:{line}{DO}"


def test_a_file_that_cannot_be_read_is_named(make_run: MakeRun) -> None:
    """A folder where a file should be is an error with the system's reason."""
    run = make_run()
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    assert refusal(run) == f"metrics.jsonl cannot be read: Is a directory\n  where: {run}/metrics.jsonl{DO}"


def places(value: Any) -> list[list[Any]]:
    """The ways to every value within a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [[], *([key, *way] for key, item in inside for way in places(item))]


def replaced(value: Any, way: list[Any], new: Any) -> Any:
    if not way:
        return new
    value[way[0]] = replaced(value[way[0]], way[1:], new)
    return value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


class TestNoFileMakesATraceback:
    """ "A damaged or missing file is a named error": whatever a file of the run holds, it is read or refused."""

    @pytest.mark.parametrize("independent", [False, True])
    def test_result(self, make_run: MakeRun, tmp_path: Path, independent: bool) -> None:
        """A result with any value replaced gives a page or an error of ours."""
        run = make_run(photos=300, independent=independent)
        whole = json.loads((run / "result.json").read_text())
        ways = places(whole)

        @PROPERTY
        @given(way=st.sampled_from(ways), new=json_values)
        def check(way: list[Any], new: Any) -> None:
            (run / "result.json").write_text(json.dumps(replaced(copy.deepcopy(whole), way, new)))
            page_or_refusal(run, tmp_path)

        check()

    def test_metrics(self, make_run: MakeRun, tmp_path: Path) -> None:
        """An epoch with any value replaced gives a page or an error of ours."""
        run = make_run(photos=300)
        lines = (run / "metrics.jsonl").read_text().splitlines()
        epoch = json.loads(lines[1])

        @PROPERTY
        @given(key=st.sampled_from(sorted(epoch)), new=json_values)
        def check(key: str, new: Any) -> None:
            (run / "metrics.jsonl").write_text("\n".join([lines[0], json.dumps(epoch | {key: new}), lines[2], ""]))
            page_or_refusal(run, tmp_path)

        check()

    @pytest.mark.parametrize("name", ["recipe.toml", "metrics.jsonl", "split.csv", "predictions.csv", "result.json"])
    def test_bytes(self, make_run: MakeRun, tmp_path: Path, name: str) -> None:
        """A file with bytes changed, or cut off, gives a page or an error of ours."""
        run = make_run(photos=300)
        whole = (run / name).read_bytes()
        chosen = np.random.default_rng(1)
        for _ in range(40):
            damaged = bytearray(whole[: chosen.integers(len(whole))] if chosen.random() < 0.3 else whole)
            for _ in range(min(3, len(damaged))):
                damaged[chosen.integers(len(damaged))] = chosen.integers(256)
            (run / name).write_bytes(damaged)
            page_or_refusal(run, tmp_path)


def page_or_refusal(run: Path, photos: Path) -> None:
    try:
        said = training_page(read_training_run(run), photos).html
    except GenderclsError as error:
        said = error.where
    assert said.encode()


class TestTicks:
    """ "Round numbers, evenly apart, of which the first is at most ``low`` and the last at least ``high``."""

    @given(low=st.floats(0, 1e4), span=st.floats(1e-3, 1e6))
    def test_ticks_enclose(self, low: float, span: float) -> None:
        """Three to eight marks that enclose the values."""
        marks = ticks(low, low + span)
        step = marks[1] - marks[0]
        assert marks[0] <= low + step * 1e-6
        assert marks[-1] >= low + span - step * 1e-6
        assert 3 <= len(marks) <= 8
        assert all(abs(b - a - step) < step * 1e-3 for a, b in pairwise(marks))
