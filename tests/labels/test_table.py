"""`Labels`: attributes, default classes, and each photo's class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gendercls.errors import LabelError
from gendercls.labels import DEFAULT_CLASSES, ClassRule, Labels, parse_classes, read_labels


def made_up(flags: dict[str, list[int]] | None = None, **columns: list[str]) -> Labels:
    """Labels of a few photos called 0.jpg, 1.jpg, ….; a column ``class`` is given as ``class_``."""
    arrays = {name: np.array(values, np.int8) for name, values in (flags or {}).items()}
    words = {name.rstrip("_"): np.array(values) for name, values in columns.items()}
    count = len(next(iter({**arrays, **words}.values())))
    return Labels("made.csv", "none", Path(), [f"{n}.jpg" for n in range(count)], arrays, words)


# --- real data --------------------------------------------------------------------------------------------------


def test_celebas_default_classes(celeba: Path) -> None:
    """CelebA's 8,000 photos are 4,628 female and 3,372 male, in this order of classes."""
    labels = read_labels(celeba)
    assert labels.default_classes() == DEFAULT_CLASSES == (ClassRule("female", "!Male"), ClassRule("male", "Male"))
    assert np.bincount(labels.assign(DEFAULT_CLASSES)).tolist() == [4_628, 3_372]


def test_fairfaces_default_classes(fairface: Path) -> None:
    """FairFace's gender words serve the default classes; its ages make classes of their own."""
    labels = read_labels(fairface / "fairface_label_val.csv")
    genders = labels.columns["gender"]
    assert [DEFAULT_CLASSES[n].name.title() for n in labels.assign(labels.default_classes())] == genders.tolist()
    young_men = labels.assign(parse_classes("young-man=gender=Male & age=20-29;other=gender=Female"))
    expected = (genders == "Male") & (labels.columns["age"] == "20-29")
    assert np.array_equal(young_men == 0, expected)


def test_composed_classes_leave_out_what_no_rule_covers(celeba: Path) -> None:
    """Contract 5: what no rule covers is left out and counted."""
    labels = read_labels(celeba)
    assigned = labels.assign(parse_classes("young-man=Male&Young;young-woman=!Male&Young"))
    male, young = labels.flags["Male"] == 1, labels.flags["Young"] == 1
    assert Counter(assigned.tolist()) == {0: (male & young).sum(), 1: (~male & young).sum(), -1: (~young).sum()}


def test_overlapping_classes_of_real_photos_are_refused(celeba: Path) -> None:
    """Rules that share photos are refused with their number and the first photo."""
    labels = read_labels(celeba)
    both = (labels.flags["Male"] == 1) & (labels.flags["Young"] == 1)
    with pytest.raises(LabelError) as caught:
        labels.assign(parse_classes("old=!Young;man=Male & Young;young=Young"))
    assert str(caught.value) == (
        f"the classes 'man' and 'young' overlap: {both.sum():,} photos are in both\n"
        f"  where: 'Male & Young' and 'Young', for example at {labels.keys[int(both.argmax())]}\n"
        "  do:    make the rules exclude each other, for example with '& !…'"
    )


def test_a_misspelt_attribute_is_pointed_at(celeba: Path) -> None:
    """The nearest attribute is offered and the caret stands under the wrong name in its rule."""
    with pytest.raises(LabelError) as caught:
        read_labels(celeba).assign(parse_classes("a=Male & Eyeglases;b=!Male"))
    assert str(caught.value) == (
        "no attribute 'Eyeglases'\n"
        "  where: the attributes of CelebA\n"
        "         Male & Eyeglases\n"
        "                ^^^^^^^^^\n"
        "  do:    did you mean 'Eyeglasses'?"
    )


# --- attributes -------------------------------------------------------------------------------------------------


def test_every_attribute_that_is_named_can_be_read() -> None:
    """``attribute_names`` names flags, ``column=value`` and ``Male``, and ``attribute`` knows each of them."""
    labels = made_up({"Young": [1, 0, -1]}, gender=["man", "WOMAN", "undetermined"], age=["9", "", "8"])
    read = {name: labels.attribute(name).tolist() for name in labels.attribute_names()}
    assert read == {
        "Young": [1, 0, -1],
        "gender=WOMAN": [0, 1, -1],
        "gender=man": [1, 0, -1],
        "age=8": [0, -1, 1],
        "age=9": [1, -1, 0],
        "Male": [1, 0, -1],
    }
    assert all(labels.attribute(name).dtype == np.int8 for name in read)


@pytest.mark.parametrize("words", [["Male", "Female"], ["m", "f"], ["man", "woman"], ["boy", "girl"], ["M", "w"]])
def test_a_column_of_gender_words_gives_male(words: list[str]) -> None:
    """A categorical column of words for female and male is also the attribute ``Male``."""
    labels = made_up(sex=words)
    assert labels.attribute("Male").tolist() == [1, 0]
    assert labels.default_classes() == DEFAULT_CLASSES


def test_a_flag_male_goes_before_a_column() -> None:
    """Where the data has an attribute ``Male`` it is taken, whatever a column says."""
    labels = made_up({"Male": [0, 0]}, gender=["male", "female"])
    assert labels.attribute("Male").tolist() == [0, 0]
    assert list(labels.attribute_names()).count("Male") == 1


@pytest.mark.parametrize(
    "name", ["race=Indian", "Race=Indian", "race", " ethnicity = x", "RACE4=White", "race7=White", "race_7=x"]
)
def test_classes_over_race_are_refused(name: str) -> None:
    """Contract 5: race columns serve slices; classes over race are refused, with the rule shown."""
    with pytest.raises(LabelError) as caught:
        made_up(race=["Indian", "White"]).attribute(name, rule=f"Male & {name}")
    assert str(caught.value) == (
        f"classes over {name.partition('=')[0].strip()!r} are refused\n"
        f"  where: Male & {name}\n"
        "  do:    race columns serve to compare error rates between groups, not to classify people"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "age",
            "'age' is a column of words, not an attribute\n"
            "  where: Young & age\n"
            "  do:    name one of its values: age=8, age=9",
        ),
        (
            "age=7",
            "no attribute 'age=7'\n"
            "  where: the attributes of made.csv\n         Young & age=7\n                 ^^^^^\n"
            "  do:    did you mean 'age=9'?",
        ),
        (
            "Yung",
            "no attribute 'Yung'\n"
            "  where: the attributes of made.csv\n         Young & Yung\n                 ^^^^\n"
            "  do:    did you mean 'Young'?",
        ),
        (
            "xxxx",
            "no attribute 'xxxx'\n"
            "  where: the attributes of made.csv\n         Young & xxxx\n                 ^^^^\n"
            "  do:    the attributes are: Young, age=8, age=9, agency=q",
        ),
    ],
)
def test_an_unknown_attribute_is_refused(name: str, message: str) -> None:
    """An attribute that is not there is answered with what is, the spot marked."""
    labels = made_up({"Young": [1, 1]}, age=["8", "9"], agency=["q", "q"])
    with pytest.raises(LabelError) as caught:
        labels.attribute(name, rule=f"Young & {name}")
    assert str(caught.value) == message


def test_two_columns_of_gender_words_are_not_guessed_between() -> None:
    """Two columns that could both mean ``Male`` are named, and neither is taken."""
    labels = made_up(gender=["male", "female"], sex=["f", "m"])
    assert "Male" not in labels.attribute_names()
    with pytest.raises(LabelError) as caught:
        labels.assign(labels.default_classes())
    assert str(caught.value) == (
        "more than one column says who is male: gender, sex\n"
        "  where: made.csv\n"
        "  do:    let --classes name the values of one: gender=female, gender=male, sex=f, sex=m"
    )


# --- default classes and truth ----------------------------------------------------------------------------------


def test_a_column_of_classes_is_its_own_classes() -> None:
    """Without gender, the values of ``class`` are the classes, in order; unknown ones are no class."""
    labels = made_up(class_=["dog", "", "cat", "undetermined", "dog"])
    classes = labels.default_classes()
    assert classes == (ClassRule("cat", "class=cat"), ClassRule("dog", "class=dog"))
    assert labels.assign(classes).tolist() == [1, -1, 0, -1, 1]


def test_labels_that_tell_no_classes_say_what_they_have() -> None:
    """Without gender and without ``class`` the classes must be given, and the attributes are listed."""
    with pytest.raises(LabelError) as caught:
        made_up({"Smiling": [1, 0]}, age=["8", "9"]).default_classes()
    assert str(caught.value) == (
        "the labels do not say which classes to train\n"
        "  where: made.csv has: Smiling, age=8, age=9\n"
        "  do:    name them, as in --classes 'smiling=Smiling;serious=!Smiling'"
    )


def test_a_label_that_was_typed_wrong_is_named() -> None:
    """Where words are the names of classes but for some; not where none is, which are other labels altogether."""
    labels = made_up(class_=["male", "femal", "undetermined", ""])
    with pytest.raises(LabelError) as caught:
        labels.truth_for(DEFAULT_CLASSES)
    assert str(caught.value) == (
        "the label 'femal' is none of the classes\n  where: made.csv\n"
        "  do:    mend it: the classes are female, male, and undetermined where nobody can tell"
    )
    with pytest.raises(LabelError, match=r"^no attribute 'Male'\n"):
        made_up(class_=["cat", "dog"]).truth_for(DEFAULT_CLASSES)
    assert made_up({"Male": [1, 0]}, class_=["male", "other"]).truth_for(DEFAULT_CLASSES).tolist() == [[0, 1], [1, 0]]


def test_class_words_speak_for_themselves() -> None:
    """A column ``class`` of the model's class names is the truth, whatever the model's rules read."""
    labels = made_up(class_=["old", "young", "undetermined", ""])
    classes = parse_classes("young=Young;old=!Young")
    assert labels.truth_for(classes).tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]
    gendered = made_up(class_=["male", "female"])
    assert gendered.truth_for(DEFAULT_CLASSES).tolist() == [[0, 1], [1, 0]]


def test_other_class_words_leave_the_truth_to_the_rules() -> None:
    """Where ``class`` holds a word that is no class of the model, its rules decide."""
    labels = made_up({"Young": [1, 0, 1]}, class_=["young", "old", "cat"])
    assert labels.truth_for(parse_classes("young=Young;old=!Young")).tolist() == [[1, 0], [0, 1], [1, 0]]


# --- independent attributes -------------------------------------------------------------------------------------


def test_all_of_celebas_attributes_are_classes(celeba: Path) -> None:
    """``--classes all``: CelebA's 40 attributes are a class each, of their own name and in the file's order."""
    labels = read_labels(celeba)
    classes = labels.attribute_rules()
    assert [(c.name, c.rule) for c in classes] == [(name, name) for name in labels.flags]
    targets = labels.assign_each(classes)
    assert (targets.shape, targets.dtype) == ((8_000, 40), np.int8)
    assert {c.name: int(count) for c, count in zip(classes, (targets == 1).sum(axis=0), strict=True)} == {
        name: int((values == 1).sum()) for name, values in labels.flags.items()
    }
    assert np.array_equal(labels.truth_for(classes, independent=True), targets)


def test_attributes_over_race_are_no_classes() -> None:
    """``all`` leaves out flags over race, which serve slices; all others come, unknown values and all."""
    labels = made_up({"race_Black": [1, 0], "A": [1, -1], "Race Asian": [0, 1], "racket": [0, 0], "ethnic": [1, 1]})
    classes = labels.attribute_rules()
    assert [c.name for c in classes] == ["A", "racket"]
    assert labels.assign_each(classes).tolist() == [[1, 0], [-1, 0]]
    with pytest.raises(LabelError, match="classes over 'race_Black' are refused"):
        labels.assign_each((ClassRule("x", "race_Black"), *classes))


def test_each_rule_is_read_by_itself() -> None:
    """`assign_each` takes any rules, also such as overlap; a rule over something unknown is unknown."""
    labels = made_up({"A": [1, 1, 0, -1], "B": [1, 0, 0, 1]})
    assert labels.assign_each(parse_classes("a=A;both=A&B;either=A|B")).tolist() == [
        [1, 1, 1],
        [1, 0, 1],
        [0, 0, 0],
        [-1, -1, 1],
    ]


def test_spaces_in_an_attributes_name_become_underscores() -> None:
    """A class name is one word: 'Wavy Hair' gives ``Wavy_Hair``, whose rule still reads 'Wavy Hair'."""
    labels = made_up({"Wavy Hair": [1, 0], "Grey\N{NO-BREAK SPACE}Hair": [0, -1]})
    classes = labels.attribute_rules()
    assert classes == (ClassRule("Wavy_Hair", "Wavy Hair"), ClassRule("Grey_Hair", "Grey\N{NO-BREAK SPACE}Hair"))
    assert labels.assign_each(classes).tolist() == [[1, 0], [0, -1]]


def test_a_flag_of_the_attributes_name_speaks_for_itself() -> None:
    """A run's ``split.csv`` has a column for each attribute, called as the class and not as the rule."""
    classes = made_up({"Wavy Hair": [1, 0], "Male": [0, 1]}).attribute_rules()
    written = made_up({"Wavy_Hair": [0, 1], "Male": [1, -1]})
    assert written.truth_for(classes, independent=True).tolist() == [[0, 1], [1, -1]]


def test_a_gender_column_serves_the_attribute_male() -> None:
    """Words for female and male tell ``Male`` where the labels have no such flag."""
    classes = (ClassRule("Male", "Male"), ClassRule("Young", "Young"))
    labels = made_up({"Young": [1, 0, 1]}, gender=["woman", "man", ""])
    assert labels.truth_for(classes, independent=True).tolist() == [[0, 1], [1, 0], [-1, 1]]


def test_labels_that_lack_attributes_are_refused() -> None:
    """Labels without all of a model's attributes say how many are missing, and the first ten of them."""
    classes = tuple(ClassRule(f"A{n}", f"A{n}") for n in range(13))
    with pytest.raises(LabelError) as caught:
        made_up({"A3": [1, 0]}, gender=["man", "woman"]).truth_for(classes, independent=True)
    assert str(caught.value) == (
        "the labels lack 12 of the model's 13 attributes: A0, A1, A2, A4, A5, A6, A7, A8, A9, A10 …\n"
        "  where: made.csv\n"
        "  do:    give labels that have all of them: a row is right only if all of its label is"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"A": [1, 0]},
            "--classes all needs two or more yes-or-no attributes; these labels have only 'A'\n"
            "  where: made.csv\n"
            "  do:    name classes by rules, as in --classes 'smiling=Smiling;serious=!Smiling'",
        ),
        (
            {"race": [1, 0]},
            "--classes all needs two or more yes-or-no attributes; these labels have none\n"
            "  where: made.csv\n"
            "  do:    name classes by rules, as in --classes 'smiling=Smiling;serious=!Smiling'",
        ),
        (
            {"A": [1, 0], "none": [1, 0]},
            "the class name 'none' is kept for photos that have no attribute\n"
            "  where: made.csv\n  do:    rename the attribute's column",
        ),
        (
            {"A": [1, 0], "failed": [1, 0]},
            "the class name 'failed' is kept for rows without an answer\n"
            "  where: made.csv\n  do:    rename the attribute's column",
        ),
        (
            {"A B": [1, 0], "A_B": [1, 0]},
            "the class name 'A_B' is given twice\n  where: made.csv\n  do:    rename the attribute's column",
        ),
        (
            {"A": [1, 0], "": [1, 0]},
            "the class name '' must be one word without spaces\n"
            "  where: made.csv\n  do:    rename the attribute's column",
        ),
        (
            {"A": [1, 0], "B (left)": [1, 0]},
            "the attribute 'B (left)' cannot be named in a class rule, where & | ! ( ) mean something\n"
            "  where: made.csv\n  do:    rename the attribute's column",
        ),
    ],
)
def test_attributes_that_cannot_be_classes_are_refused(flags: dict[str, list[int]], message: str) -> None:
    """Fewer than two attributes, and names that no class or rule can have, are said whole."""
    with pytest.raises(LabelError) as caught:
        made_up(flags, age=["8", "9"]).attribute_rules()
    assert str(caught.value) == message


def test_fairface_has_no_attributes_to_take_all_of(fairface: Path) -> None:
    """FairFace's age, gender and race are words; its one flag is no model."""
    with pytest.raises(LabelError, match=r"^--classes all needs two or more .* these labels have only 'service_test'"):
        read_labels(fairface).attribute_rules()
