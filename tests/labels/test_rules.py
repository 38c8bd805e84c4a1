"""Class rules: their grammar, their truth, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendercls.errors import LabelError
from gendercls.labels import read_labels
from gendercls.labels.rules import (
    DEFAULT_CLASSES,
    OPINIONS,
    ClassRule,
    Truth,
    assign,
    attributes_of,
    check_classes,
    classes_to_json,
    evaluate,
    opinions_in,
    parse_classes,
    unknown_attribute,
)

# Every assignment of true and false to four attributes, one photo each.
NAMES = ("Male", "Young", "age=20-29", "5_o_Clock_Shadow")
PHOTOS = [dict(zip(NAMES, values, strict=True)) for values in product((False, True), repeat=len(NAMES))]
FLAGS = {name: np.array([photo[name] for photo in PHOTOS], np.int8) for name in NAMES}

Meaning = Callable[[dict[str, bool]], bool]
Rule = tuple[str, Meaning]
spaces = st.sampled_from(["", " ", "  "])


def _leaf(name: str) -> Rule:
    return name, lambda photo: photo[name]


@st.composite
def _compound(draw: st.DrawFn, inner: st.SearchStrategy[Rule]) -> Rule:
    """Terms joined by ``|``, each of factors joined by ``&``, each perhaps negated, as the grammar nests them."""

    def factor() -> Rule:
        text, meaning = draw(inner)
        text = text if text in NAMES else f"({text})"
        bangs = draw(st.integers(0, 2))
        return draw(spaces) + "!" * bangs + draw(spaces) + text + draw(spaces), lambda p: meaning(p) ^ (bangs == 1)

    terms = [[factor() for _ in range(draw(st.integers(1, 3)))] for _ in range(draw(st.integers(1, 3)))]
    text = "|".join("&".join(text for text, _ in term) for term in terms)
    return text, lambda photo: any(all(meaning(photo) for _, meaning in term) for term in terms)


rules = st.recursive(st.sampled_from(NAMES).map(_leaf), _compound, max_leaves=8)


@given(rules)
def test_a_rule_means_what_python_would_say(rule: Rule) -> None:
    """Over every combination of attributes a rule is as true as Python's ``or``, ``and`` and ``not`` make it."""
    text, meaning = rule
    assert evaluate(text, FLAGS.__getitem__).tolist() == [meaning(photo) for photo in PHOTOS]


@pytest.mark.parametrize(
    ("rule", "values"),
    [  # a, b: true/true, true/false, true/unknown, false/false, false/unknown, unknown/unknown
        ("a & b", [1, 0, -1, 0, 0, -1]),
        ("a | b", [1, 1, 1, 0, -1, -1]),
        ("!b", [0, 1, -1, 1, -1, -1]),
        ("!(b & a)", [0, 1, -1, 1, 1, -1]),
        ("b | !b", [1, 1, -1, 1, -1, -1]),
    ],
)
def test_an_unknown_attribute_decides_nothing(rule: str, values: list[int]) -> None:
    """Kleene's three-valued logic: what is unknown stays so unless the other side decides alone."""
    known: dict[str, Truth] = {
        "a": np.array([1, 1, 1, 0, 0, -1], np.int8),
        "b": np.array([1, 0, -1, 0, -1, -1], np.int8),
    }
    value = evaluate(rule, known.__getitem__)
    assert value.dtype == np.int8
    assert value.tolist() == values


def test_attributes_come_in_the_order_written() -> None:
    """A rule names the attributes it reads, in order, spaces within kept."""
    assert list(attributes_of("!(Young | age=more than 70) & Male|Young")) == [
        "Young",
        "age=more than 70",
        "Male",
        "Young",
    ]


def test_classes_are_parsed_in_order() -> None:
    """Contract 5: ``--classes 'young-man=Male&Young;young-woman=!Male&Young'``; a rule may hold ``=`` itself."""
    parsed = parse_classes(" young-man = Male & Young;young-woman=!Male&Young ; child=age=0-2|age=3-9;")
    expected = [
        {"name": "young-man", "rule": "Male & Young"},
        {"name": "young-woman", "rule": "!Male&Young"},
        {"name": "child", "rule": "age=0-2|age=3-9"},
    ]
    assert classes_to_json(parsed) == expected
    assert parse_classes("female=!Male;male=Male") == DEFAULT_CLASSES


NO_RULE = (
    "  do:    write NAME=RULE, separated by ';', as in 'female=!Male;male=Male'; "
    "or all alone, for a model of every attribute"
)
NAME = "  where: --classes\n  do:    choose another name, such as 'young-man'"
COMBINE = "  do:    combine attributes with & (and), | (or), ! (not) and ( )"
TWO = "  where: --classes\n  do:    give one rule per class, as in 'female=!Male;male=Male'"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("male=Male;female", f"the class 'female' has no rule\n  where: --classes 'male=Male;female'\n{NO_RULE}"),
        ("male=Male;old= ", f"the class 'old=' has no rule\n  where: --classes 'male=Male;old= '\n{NO_RULE}"),
        ("young man=Young;b=Male", f"the class name 'young man' must be one word without spaces\n{NAME}"),
        ("=Young;b=Male", f"the class name '' must be one word without spaces\n{NAME}"),
        ("uncertain=Young;b=Male", f"the class name 'uncertain' is kept for rows without an answer\n{NAME}"),
        ("b\x07=Young;b=Male", f"the class name 'b\\x07' has characters that cannot be printed\n{NAME}"),
        ("b=Young;b=Male", f"the class name 'b' is given twice\n{NAME}"),
        ("b=Young", f"1 class given; a classifier needs two or more\n{TWO}"),
        (";", f"0 classes given; a classifier needs two or more\n{TWO}"),
        (
            "a=Male &;b=!Male",
            "the class rule does not parse: an attribute was expected here\n"
            f"  where: Male &\n               ^\n{COMBINE}",
        ),
        (
            "a=| Male;b=!Male",
            f"the class rule does not parse: an attribute was expected here\n  where: | Male\n         ^\n{COMBINE}",
        ),
        (
            "a=!(Young | Male;b=!Male",
            "the class rule does not parse: a ')' is missing here\n"
            f"  where: !(Young | Male\n                       ^\n{COMBINE}",
        ),
        (
            "a=Male;b=Young !Male",
            "the class rule does not parse: nothing more was expected here\n"
            f"  where: Young !Male\n               ^\n{COMBINE}",
        ),
    ],
)
def test_broken_classes_are_refused(classes: str, message: str) -> None:
    """What is wrong with ``--classes`` is said whole, with a caret under the spot in a rule."""
    with pytest.raises(LabelError) as caught:
        parse_classes(classes)
    assert str(caught.value) == message


@pytest.mark.parametrize("unit", ["!", "(", "Male|", "Male&"])
def test_a_rule_is_long_or_refused(unit: str) -> None:
    """A rule of 200 parts works however it nests; a longer one is refused before it exhausts the stack."""

    def rule(parts: int) -> str:
        units = (parts - 1) // len(re.findall(r"\w+|\W", unit)) // (2 if unit == "(" else 1)
        return unit * units + "Male" + ")" * units * (unit == "(")

    assert set(evaluate(rule(200), FLAGS.__getitem__).tolist()) == {0, 1}
    with pytest.raises(LabelError) as caught:
        evaluate(rule(2001), FLAGS.__getitem__)
    assert str(caught.value) == (
        f"the class rule has 2,001 parts; 200 are the limit\n  where: {rule(2001)[:40]}…\n  do:    make it shorter"
    )


def test_photos_get_the_class_that_covers_them() -> None:
    """Each photo has the index of its class, and -1 where no rule covers it or its attributes are unknown."""
    flags: dict[str, Truth] = {
        "Male": np.array([1, 0, 1, 0, -1, 1], np.int8),
        "Young": np.array([1, 1, 0, 0, 1, -1], np.int8),
    }
    classes = (ClassRule("young-man", "Male & Young"), ClassRule("young-woman", "!Male & Young"))
    assert assign(classes, flags.__getitem__, list("abcdef")).tolist() == [0, 1, -1, -1, -1, -1]


def test_opinions_are_told_from_what_a_photo_shows() -> None:
    """Attributes that are a matter of taste or degree are found in any rule, spelt as the rule spells them."""
    classes = parse_classes("a=Smiling & !Young;b=big lips | (Attractive & Young);c=Eyeglasses;d=Big_Lipstick")
    assert opinions_in(classes) == ["Young", "big lips", "Attractive"]
    assert opinions_in(DEFAULT_CLASSES) == []


def test_opinions_are_celebas_attributes(celeba: Path) -> None:
    """Every opinion on the list is an attribute that CelebA has, and most of its attributes are none."""
    names = read_labels(celeba).flags.keys()
    assert names >= OPINIONS
    assert len(OPINIONS) < len(names) / 2


def test_none_is_kept_among_attributes_only() -> None:
    """``none`` is the label of a photo without any attribute; where one class excludes another it is a plain name."""
    classes = parse_classes("hat=Wearing_Hat;none=!Wearing_Hat")
    assert check_classes(classes) == classes
    with pytest.raises(LabelError) as caught:
        check_classes(classes, independent=True)
    assert str(caught.value) == f"the class name 'none' is kept for photos that have no attribute\n{NAME}"


def test_overlapping_classes_are_refused() -> None:
    """Two classes that share photos are named, with how many photos those two share and the first of them."""
    flags: dict[str, Truth] = {
        "A": np.array([1, 1, 1, 0, 0, 0], np.int8),
        "B": np.array([0, 1, 1, 0, 0, 0], np.int8),
        "C": np.array([0, 0, 0, 1, 1, 1], np.int8),
    }
    classes = (ClassRule("a", "A"), ClassRule("b", "B"), ClassRule("c", "C"), ClassRule("d", "C | C"))
    with pytest.raises(LabelError) as caught:
        assign(classes, flags.__getitem__, [f"{n}.jpg" for n in range(6)])
    assert str(caught.value) == (
        "the classes 'a' and 'b' overlap: 2 photos are in both\n"
        "  where: 'A' and 'B', for example at 1.jpg\n"
        "  do:    make the rules exclude each other, for example with '& !…'"
    )


@pytest.mark.parametrize(
    ("name", "rule", "where", "do"),
    [
        ("Yuong", "Male & Yuong", "the files\n         Male & Yuong\n                ^^^^^", "did you mean 'Young'?"),
        ("Mal", "Male & Mal", "the files\n         Male & Mal\n                ^^^", "did you mean 'Male'?"),
        ("YOUNG", "", "the files", "did you mean 'Young'?"),
        ("Height", "", "the files", "the attributes are: Male, Young"),
    ],
)
def test_an_unknown_attribute_is_answered_with_the_nearest(name: str, rule: str, where: str, do: str) -> None:
    """The caret stands under the unknown name itself, not under a longer one that contains it."""
    error = unknown_attribute(name, ["Young", "Male"], "the files", rule)
    assert str(error) == f"no attribute {name!r}\n  where: {where}\n  do:    {do}"
