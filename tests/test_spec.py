"""The model file's contract: what is written is read again, and what is wrong is named with its key and file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gendercls.answers import answers_for
from gendercls.errors import ModelError
from gendercls.images import Preprocessing
from gendercls.labels import ClassRule
from gendercls.spec import FORMAT, Figure, GateFigures, ModelSpec, SelfTest, parse_spec
from gendercls.stats import Threshold, wilson

SPEC = ModelSpec(
    name="faces-1",
    classes=(ClassRule("female", "!Male"), ClassRule("male", "Male")),
    preprocessing=Preprocessing("crop", 128, 96, "bicubic", 0.25),
    precision="fp32",
    temperature=1.25,
    provenance={"data": "FairFace", "photos": {"train": 3}, "init": None},
    figures=(Figure("FairFace, test part", 7, 10, ((3, 1), (2, 4))),),
    thresholds=(Threshold(0.01, 0.93, 0.8, 0.009),),
    self_test=SelfTest((1, 2), ((0.25, 0.75), (0.5, 0.5)), 2e-3),
    gate=GateFigures(500, 3e-7, 1e-4, 0, "val/1.jpg"),
)
ATTRIBUTES = replace(
    SPEC,
    classes=(ClassRule("Male", "Male"), ClassRule("Wavy_Hair", "Wavy Hair"), ClassRule("Young", "Young")),
    figures=(Figure("CelebA, test part", 2, 9, (), (((1, 2), (3, 4)), ((5, 0), (0, 5)), ((0, 0), (0, 0)))),),
    self_test=SelfTest((1,), ((0.9, 0.8, 0.0),), 2e-3),
    independent=True,
)
AGAIN = "  where: faces.onnx\n  do:    export the model again"


def refusal(text: str) -> str:
    with pytest.raises(ModelError) as caught:
        parse_spec(text, "faces.onnx")
    return str(caught.value)


def plain() -> dict[str, Any]:
    """The spec as a program reads it."""
    content: dict[str, Any] = json.loads(SPEC.to_json())
    return content


numbers = st.floats(-1e6, 1e6)
shares = st.floats(0, 1)
counts = st.integers(0, 2**31)
words = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.from_regex(r"[a-z][a-z-]{0,9}", fullmatch=True)
plain_values = st.recursive(
    st.none() | st.booleans() | counts | numbers | words, lambda inner: st.lists(inner) | st.dictionaries(words, inner)
)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    classes = draw(
        st.lists(
            names.filter(lambda name: name not in ("uncertain", "failed", "no-face", "none")),
            min_size=2,
            max_size=5,
            unique=True,
        )
    )
    k = len(classes)
    minor = draw(counts)
    independent = minor > 0 and draw(st.booleans())
    tables = st.lists(st.lists(counts, min_size=k, max_size=k).map(tuple), min_size=k, max_size=k).map(tuple)
    totals = st.tuples(st.integers(0, 2**31), st.integers(1, 2**31)).map(sorted)
    figures = st.builds(lambda on, pair, table: Figure(on, pair[0], pair[1], table), words, totals, tables)
    if independent:
        pair = st.tuples(counts, counts)
        tables = st.lists(st.tuples(pair, pair), min_size=k, max_size=k).map(tuple)
        figures = st.builds(lambda on, pair, table: Figure(on, pair[0], pair[1], (), table), words, totals, tables)
    seeds = draw(st.lists(counts, min_size=1, max_size=16))
    rows = tuple(tuple(draw(st.lists(shares, min_size=k, max_size=k))) for _ in seeds)
    return ModelSpec(
        name=draw(words),
        classes=tuple(
            ClassRule(name, draw(st.sampled_from(("Male", "!Male & Young", "age=20-29")))) for name in classes
        ),
        preprocessing=Preprocessing(
            draw(st.sampled_from(("crop", "pad", "squash"))),
            draw(st.integers(1, 4096)),
            draw(st.integers(1, 4096)),
            draw(st.sampled_from(("bilinear", "bicubic", "lanczos"))),
            draw(st.floats(0, 4)),
        ),
        precision=draw(words),
        temperature=draw(numbers),
        provenance=draw(st.dictionaries(words, plain_values)),
        figures=tuple(draw(st.lists(figures, max_size=3))),
        thresholds=tuple(draw(st.lists(st.builds(Threshold, shares, shares, shares, shares), max_size=3))),
        self_test=SelfTest(tuple(seeds), rows, draw(shares)),
        gate=GateFigures(draw(counts), draw(shares), draw(shares), draw(counts), draw(words)),
        independent=independent,
        familiar_norm=draw(st.none() | numbers) if minor >= 2 else None,
        format=(FORMAT[0], minor),
    )


@settings(deadline=None)
@given(specs())
def test_what_is_written_is_read_again(spec: ModelSpec) -> None:
    """Contract 2: ``metadata_props["gendercls"]`` holds ModelSpec as JSON, all of it."""
    assert parse_spec(spec.to_json(), "x") == spec


def test_the_json_has_accuracies_for_people() -> None:
    """Each figure's JSON has its accuracy and its interval beside the counts."""
    rate = wilson(7, 10)
    (figure,) = plain()["figures"]
    assert (figure["accuracy"], figure["interval"]) == (0.7, [rate.low, rate.high])
    assert str(SPEC.figures[0]) == f"{rate} on FairFace, test part"


# --- one thing wrong --------------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key that must be there: not what provenance holds, and not what is derived."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key in ("accuracy", "interval"):
            continue
        yield (*path, key)
        if key != "provenance":
            yield from places(inner, (*path, key))


def dotted(path: tuple[Any, ...]) -> str:
    return "spec" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


PLACES = list(places(plain()))
KEYS = [path for path in PLACES if isinstance(path[-1], str)]


def holder_of(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


@pytest.mark.parametrize("path", KEYS, ids=dotted)
def test_a_missing_key_is_named(path: tuple[Any, ...]) -> None:
    """Whatever key is missing, the error has its exact place and the file."""
    content = plain()
    del holder_of(content, path)[path[-1]]
    assert refusal(json.dumps(content)) == f"{dotted(path)} is missing\n{AGAIN}"


VALUES = {"null": None, "true": True, "7": 7, "text": "x", "list": [], "object": {}, "nan": math.nan, "huge": 10**400}


def is_of_its_kind(path: tuple[Any, ...], wrong: Any) -> bool:
    right = holder_of(plain(), path)[path[-1]]
    if path == ("familiar_norm",):
        return wrong is None or bool(wrong is VALUES["7"])
    if isinstance(right, bool):
        return wrong is True
    if isinstance(right, int | float):
        return bool(wrong is VALUES["7"])
    return type(wrong) is type(right)


def named(path: tuple[Any, ...]) -> str:
    """The place that an error names: numbers within lists go by the key that holds the list."""
    lists = {"format", "seeds", "probabilities", "confusion"}
    return dotted(next((path[: n + 1] for n, key in enumerate(path) if key in lists), path))


@pytest.mark.parametrize(
    ("path", "kind"), [(path, kind) for path in PLACES for kind in VALUES if not is_of_its_kind(path, VALUES[kind])]
)
def test_a_value_of_another_kind_is_named(path: tuple[Any, ...], kind: str) -> None:
    """Whatever value is of the wrong kind, or no number that a computer can hold, is named with the file."""
    content = plain()
    holder_of(content, path)[path[-1]] = VALUES[kind]
    what, *rest = refusal(json.dumps(content)).splitlines()
    assert what.startswith(f"{named(path)} should be ")
    assert rest == AGAIN.splitlines()


MESSAGES: list[tuple[tuple[Any, ...], Any, str]] = [
    (("name",), 5, "spec.name should be text, but is 5"),
    (("format",), [1], "spec.format should be a list of 2 whole numbers, 0 or more, but is [1]"),
    (("classes",), {}, "spec.classes should be a list, but is {}"),
    (("classes", 1), "male", 'spec.classes[1] should be an object, but is "male"'),
    (("classes", 1, "name"), "fe male", "spec.classes: the class name 'fe male' must be one word without spaces"),
    (("classes", 0, "rule"), "Male &", "spec.classes: the class rule does not parse: an attribute was expected here"),
    (("preprocessing",), None, "spec.preprocessing should be an object, but is null"),
    (("preprocessing", "height"), 96.5, "spec.preprocessing.height should be a whole number, 0 or more, but is 96.5"),
    (
        ("preprocessing", "width"),
        0,
        "spec.preprocessing: size is 128×0; each side must be 1 to 4096 pixels",
    ),
    (
        ("preprocessing", "fit"),
        "stretch",
        "spec.preprocessing: fit is 'stretch'; it must be one of crop, pad, squash",
    ),
    (("temperature",), "1", 'spec.temperature should be a number, but is "1"'),
    (
        ("figures", 0, "correct"),
        11,
        "spec.figures[0].correct should be at most the total of 10, which is at least 1, but is 11",
    ),
    (
        ("figures", 0, "confusion"),
        [1, 2],
        "spec.figures[0].confusion should be a list of lists of numbers, but is [1, 2]",
    ),
    (("thresholds", 0, "error"), None, "spec.thresholds[0].error should be a number, but is null"),
    (
        ("self_test", "seeds"),
        [-1, 2],
        "spec.self_test.seeds should be a list of whole numbers, 0 or more, but is [-1, 2]",
    ),
    (
        ("self_test", "seeds"),
        [2**32],
        f"spec.self_test.seeds should be a list of whole numbers, 0 or more, but is [{2**32}]",
    ),
    (("self_test", "seeds"), [1], "spec.self_test needs 1 to 16 seeds with one probability per class each"),
    (
        ("self_test", "probabilities"),
        [[1], [1]],
        "spec.self_test needs 1 to 16 seeds with one probability per class each",
    ),
    (("gate", "photos"), True, "spec.gate.photos should be a whole number, 0 or more, but is true"),
]


@pytest.mark.parametrize(("path", "value", "message"), MESSAGES)
def test_a_wrong_value_is_told_in_full(path: tuple[Any, ...], value: Any, message: str) -> None:
    """The message has the place, what should be there and what is."""
    content = plain()
    holder_of(content, path)[path[-1]] = value
    assert refusal(json.dumps(content)) == f"{message}\n{AGAIN}"


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, '{"format": 1' + "0" * 5000 + "}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """Text that does not parse, is too deep or has a number without end is no spec."""
    assert refusal(text) == f"the model's spec is no JSON\n{AGAIN}"


def test_json_that_is_no_object_is_refused() -> None:
    """A list is no spec."""
    assert refusal("[1]") == f"spec should be an object, but is [1]\n{AGAIN}"


# --- format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "do"), [([2, 0], "install a newer gendercls"), ([0, 9], "export the model again")])
def test_another_major_format_is_refused(version: list[int], do: str) -> None:
    """Contract 2: a newer major is refused; so is an older one. Nothing else of the file is looked at."""
    assert refusal(json.dumps({"format": version})) == (
        f"the model's format is {version[0]}.{version[1]}; this version of gendercls reads 1.x\n"
        f"  where: faces.onnx\n  do:    {do}"
    )


@pytest.mark.parametrize(("minor", "is_newer"), [(FORMAT[1], False), (FORMAT[1] + 1, True)])
def test_a_newer_minor_format_is_read_and_known(minor: int, is_newer: bool) -> None:
    """Contract 2: a newer minor is read, keys that it added and all, and `is_newer` says so."""
    spec = parse_spec(json.dumps(plain() | {"format": [1, minor], "added": 1}), "x")
    assert spec.is_newer is is_newer


def test_a_file_of_format_1_0_is_read() -> None:
    """What 1.1 brought is not asked of an older file: its classes exclude each other."""
    content = plain() | {"format": [1, 0]}
    del content["independent"], content["figures"][0]["attributes"], content["familiar_norm"]
    assert parse_spec(json.dumps(content), "x") == replace(SPEC, format=(1, 0))


def test_a_file_of_format_1_1_is_read() -> None:
    """What 1.2 brought is not asked of an older file: nobody knows which photos are familiar to its model."""
    content = plain() | {"format": [1, 1]}
    del content["familiar_norm"]
    assert parse_spec(json.dumps(content), "x") == replace(SPEC, format=(1, 1))


# --- independent attributes -------------------------------------------------------------------------------------


def attributes_with(path: tuple[Any, ...], value: Any) -> str:
    content = json.loads(ATTRIBUTES.to_json())
    holder_of(content, path)[path[-1]] = value
    return json.dumps(content)


def test_attributes_are_read_again_with_their_counts() -> None:
    """A model of independent attributes keeps 2×2 counts for each, and its rows of the self-test need not sum to 1."""
    again = parse_spec(ATTRIBUTES.to_json(), "x")
    assert again == ATTRIBUTES
    male, wavy, young = again.figures[0].attribute_scores(again.class_names)
    assert (male.name, male.true_no, male.false_yes, male.false_no, male.true_yes) == ("Male", 1, 2, 3, 4)
    assert (wavy.accuracy.value, young.total) == (1.0, 0)
    assert again.figures[0].mean_accuracy == 0.75  # of the two that were counted
    assert again.opinions == ["Young"]
    assert again.answers.labels(np.array([[0.9, 0.8, 0.0]])) == ["Male Wavy_Hair"]
    assert SPEC.answers.labels(np.array([[0.9, 0.8]])) == ["female"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("independent",), 1, "spec.independent should be true or false, but is 1"),
        (("classes", 0, "name"), "none", "the class name 'none' is kept for photos that have no attribute"),
        (("figures", 0, "correct"), 10, "at most the total of 9, which is at least 0, but is 10"),
        (("figures", 0, "attributes", 1), [[1, 2], [3, -4]], "a list of 3 tables of 2×2 whole numbers, 0 or more"),
        (("figures", 0, "attributes"), [[[1, 2], [3, 4]]], "a list of 3 tables of 2×2 whole numbers, 0 or more"),
        (("figures", 0, "attributes", 2, 1), [5], "a list of 3 tables of 2×2 whole numbers, 0 or more"),
    ],
)
def test_wrong_attributes_are_told(path: tuple[Any, ...], value: Any, message: str) -> None:
    """Counts of another number of attributes, or no counts, are named with their key and the file."""
    what, *rest = refusal(attributes_with(path, value)).splitlines()
    assert message in what
    assert rest == AGAIN.splitlines()


def test_classes_that_exclude_each_other_have_no_attributes() -> None:
    """Counts by attribute in a model without attributes are refused."""
    content = plain()
    content["figures"][0]["attributes"] = [[[1, 2], [3, 4]]]
    assert refusal(json.dumps(content)) == (
        f"spec.figures[0].attributes should be an empty list, but is [[[1, 2], [3, 4]]]\n{AGAIN}"
    )


def test_a_figure_is_what_probabilities_give() -> None:
    """`Figure.of` counts whole labels, and the confusion of the classes or of each attribute."""
    probabilities = np.array([[0.9, 0.6], [0.2, 0.7], [0.6, 0.1]])
    one_hot, each = np.array([[1, 0], [1, 0], [0, 0]], np.int8), np.array([[1, 1], [0, -1], [0, 0]], np.int8)
    assert Figure.of("x", answers_for(False, ["a", "b"]), probabilities, one_hot) == Figure("x", 1, 2, ((1, 1), (0, 0)))
    assert Figure.of("x", answers_for(True, ["a", "b"]), probabilities, each) == Figure(
        "x", 1, 2, (), (((1, 1), (0, 1)), ((1, 0), (0, 1)))
    )


def test_a_figure_without_a_whole_truth_has_no_accuracy() -> None:
    """Where every photo has an unknown attribute the JSON's accuracy is null, and the words say why."""
    answers, unknown = answers_for(True, ["a", "b"]), np.array([[1, -1], [-1, 0]], np.int8)
    figure = Figure.of("x", answers, np.array([[0.9, 0.6], [0.2, 0.7]]), unknown)
    spec = replace(
        ATTRIBUTES, classes=ATTRIBUTES.classes[:2], figures=(figure,), self_test=SelfTest((1,), ((0, 0),), 1)
    )
    assert json.loads(spec.to_json())["figures"][0]["accuracy"] is None
    assert (str(figure), figure.is_empty) == ("no whole label known on x", False)
    assert parse_spec(spec.to_json(), "x") == spec
    assert Figure.of("x", answers, np.zeros((1, 2)), np.full((1, 2), -1, np.int8)).is_empty


# --- self-test and thresholds -----------------------------------------------------------------------------------


def test_self_test_images_are_the_same_on_every_machine() -> None:
    """The generated images are known by their hash: they never change, whatever numpy's version."""
    test = SelfTest((1, 2, 3, 4), (), 1e-3)
    images = test.images(Preprocessing("crop", 128, 96, "bicubic", 0.0))
    assert (images.shape, images.dtype) == ((4, 128, 96, 3), np.uint8)
    assert hashlib.sha256(images.tobytes()).hexdigest() == (
        "b121203892b9e8aa8d353ab8d30c4268c215d98bec003e72c5ef1d47645f68e3"
    )
    np.testing.assert_array_equal(test.images(Preprocessing("pad", 128, 96, "lanczos", 1.0)), images)


def test_each_seed_is_its_own_image() -> None:
    """An image depends on its seed alone, and fills the photo with patches."""
    pre = Preprocessing("crop", 75, 75, "bicubic", 0.0)
    both, second = SelfTest((1, 2), (), 0).images(pre), SelfTest((2,), (), 0).images(pre)
    np.testing.assert_array_equal(both[1], second[0])
    assert len(np.unique(both[0].reshape(-1, 3), axis=0)) == 64
    assert not np.array_equal(both[0], both[1])


TABLE = (Threshold(0.01, 0.93, 0.8, 0.009), Threshold(0.05, 0.6, 0.95, 0.04))


@pytest.mark.parametrize(("wanted", "row"), [(0.01, 0), (0.03, 0), (0.05, 1), (1.0, 1)])
def test_a_wanted_error_is_kept(wanted: float, row: int) -> None:
    """The threshold is of the largest error rate in the table that is no more than the wanted one."""
    content = plain() | {"thresholds": [{key: getattr(t, key) for key in Threshold.__slots__} for t in TABLE]}
    assert parse_spec(json.dumps(content), "x").threshold_for(wanted) == TABLE[row]


@pytest.mark.parametrize(
    ("thresholds", "do"),
    [(TABLE[1:], "ask for --max-error 0.05 or more"), ((), "use --min-confidence instead")],
)
def test_an_error_rate_that_nothing_keeps_is_refused(thresholds: tuple[Threshold, ...], do: str) -> None:
    """Below the table's least error rate the message says which one can be had."""
    with pytest.raises(ModelError) as caught:
        replace(SPEC, thresholds=thresholds).threshold_for(0.005)
    assert str(caught.value) == (
        "no confidence keeps an error rate of 0.005 on the photos this model was validated on\n"
        f"  where: the threshold table of faces-1\n  do:    {do}"
    )


def test_an_error_rate_of_attributes_is_of_whole_labels() -> None:
    """The message says why so few error rates can be kept: one wrong attribute makes a wrong label."""
    with pytest.raises(ModelError) as caught:
        replace(ATTRIBUTES, thresholds=()).threshold_for(0.25)
    assert str(caught.value) == (
        "no confidence keeps an error rate of 0.25 on the photos this model was validated on\n"
        "  where: the threshold table of faces-1; one wrong attribute makes a wrong label\n"
        "  do:    use --min-confidence instead"
    )
