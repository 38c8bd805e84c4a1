"""`Labels`: what is known of each photo, column by column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels import rules
from gendercls.labels.rules import DEFAULT_CLASSES, ClassRule, Truth

CLASS_COLUMN = "class"
UNDETERMINED = "undetermined"
_SHOWN = 10
_MALE_WORDS = frozenset({"male", "man", "men", "m", "boy"})
_FEMALE_WORDS = frozenset({"female", "woman", "women", "f", "girl", "w"})
_OVER_RACE = re.compile(r"\s*(race|ethnicity|ethnic)(?![a-z])", re.IGNORECASE)  # also race4, race_White


@dataclass(frozen=True)
class Labels:
    """Attribute values for N photos.

    source: the data set's name, for people. licence: what its owners allow, in a line. root: the folder that holds
    the photos. keys: N paths below root, with ``/``. flags: boolean attributes, int8 ``[N]`` of 1, 0 and -1
    (unknown). columns: categorical attributes, str ``[N]``, empty where unknown. split: str ``[N]`` of ``train``,
    ``val``, ``test`` or empty, where the data has its own. identity: int64 ``[N]``, -1 where unknown. notes: what
    was taken from where, a line each. weight, stratum: of a sample drawn to be labelled by hand: for how many photos
    each row stands, float64 ``[N]``, NaN where the file has no number, and the part it was drawn from, str ``[N]``.
    of_faces: whether rows are of faces, and keys end in ``/`` and the face's number.
    """

    source: str
    licence: str
    root: Path
    keys: list[str]
    flags: dict[str, Truth] = field(default_factory=dict)
    columns: dict[str, NDArray[np.str_]] = field(default_factory=dict)
    split: NDArray[np.str_] | None = None
    identity: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    weight: NDArray[np.float64] | None = None
    stratum: NDArray[np.str_] | None = None
    of_faces: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def attribute_names(self) -> Iterator[str]:
        """Every attribute that a rule may name."""
        yield from self.flags
        for column, values in self.columns.items():
            yield from (f"{column}={value}" for value in np.unique(values) if value and value != UNDETERMINED)
        if "Male" not in self.flags and len(self._gender_columns()) == 1:
            yield "Male"

    def attribute(self, name: str, *, rule: str = "") -> Truth:
        """One attribute's values: int8 ``[N]`` of 1, 0 and -1 (unknown).

        A column of gender words gives ``Male`` too, so that the default classes work on it.

        Raises:
            LabelError: there is no such attribute (the nearest name is said), or it is over race.
        """
        column = name.partition("=")[0]
        if _OVER_RACE.match(column):
            raise LabelError(
                f"classes over {column.strip()!r} are refused",
                where=rule or name,
                do="race columns serve to compare error rates between groups, not to classify people",
            )
        if name in self.flags:
            return self.flags[name]
        for column, values in self.columns.items():  # whose name may have a '=' in it too
            value = name.removeprefix(f"{column}=")
            if value != name and value in values:
                return _equals(values, value)
        if name == "Male" and (genders := self._gender_columns()):
            if len(genders) > 1:
                raise self._several_genders(genders)
            return _is_male(self.columns[genders[0]])
        if name in self.columns:
            raise LabelError(
                f"{name!r} is a column of words, not an attribute",
                where=rule or self.source,
                do="name one of its values: " + ", ".join(self._values_of(name)),
            )
        raise rules.unknown_attribute(name, self.attribute_names(), f"the attributes of {self.source}", rule)

    def default_classes(self) -> tuple[ClassRule, ...]:
        """``female`` and ``male`` where the data tells; else one class for each value of the column ``class``.

        Raises:
            LabelError: the data has neither.
        """
        if "Male" in self.flags or self._gender_columns():
            return DEFAULT_CLASSES
        if CLASS_COLUMN in self.columns:
            names = [str(name) for name in np.unique(self.columns[CLASS_COLUMN]) if name and name != UNDETERMINED]
            return rules.check_classes(ClassRule(name, f"{CLASS_COLUMN}={name}") for name in names)
        raise LabelError(
            "the labels do not say which classes to train",
            where=f"{self.source} has: " + ", ".join(list(self.attribute_names())[:40]),
            do="name them, as in --classes 'smiling=Smiling;serious=!Smiling'",
        )

    def attribute_rules(self) -> tuple[ClassRule, ...]:
        """One class for each flag but those over race, in order: what ``--classes all`` means.

        Raises:
            LabelError: fewer than two of them, or one whose name no class can have.
        """
        return rules.each_attribute((name for name in self.flags if not _OVER_RACE.match(name)), self.source)

    def assign(self, classes: tuple[ClassRule, ...]) -> NDArray[np.intp]:
        """Each photo's class, ``[N]`` indices into ``classes``, -1 where no rule covers it. Raises LabelError."""
        return rules.assign(classes, self._reader_for(classes), self.keys)

    def assign_each(self, classes: tuple[ClassRule, ...]) -> NDArray[np.int8]:
        """What each rule says of each photo, whatever the others say: int8 ``[N, K]`` of 1, 0 and -1 (unknown).

        Raises:
            LabelError: a rule reads an attribute that is not there.
        """
        look_up = self._reader_for(classes)
        return np.stack([rules.evaluate(c.rule, look_up) for c in classes], axis=1)

    def truth_for(self, classes: tuple[ClassRule, ...], *, independent: bool = False) -> NDArray[np.int8]:
        """What the labels say of a model's classes: int8 ``[N, K]`` of 1, 0 and -1 (unknown).

        Classes that exclude each other are one-hot, all 0 where no class covers the photo. What is named as the
        classes are speaks for itself, whatever the model's rules read: a column ``class`` of their names (so
        ``female/`` and ``male/`` folders score any model with those two classes), or a flag of an attribute's name.

        Raises:
            LabelError: the labels do not have what the classes need.
        """
        if independent:
            return self._truth_for_each(classes)
        one_hot = np.equal.outer(self._class_numbers(classes), np.arange(len(classes)))
        return np.asarray(one_hot, np.int8)

    def _truth_for_each(self, classes: tuple[ClassRule, ...]) -> NDArray[np.int8]:
        named = tuple(ClassRule(c.name, c.name if c.name in self.flags else c.rule) for c in classes)
        known = set(self.attribute_names())
        missing = [c.name for c in named if not known.issuperset(rules.attributes_of(c.rule))]
        if missing:
            shown = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
            raise LabelError(
                f"the labels lack {len(missing):,} of the model's {len(classes):,} attributes: {shown}",
                where=self.source,
                do="give labels that have all of them: a row is right only if all of its label is",
            )
        return self.assign_each(named)

    def _class_numbers(self, classes: tuple[ClassRule, ...]) -> NDArray[np.intp]:
        """As `assign`, but a column ``class`` whose words are class names speaks for itself."""
        names = [c.name for c in classes]
        words = self.columns.get(CLASS_COLUMN, np.array([], np.str_))
        said = set(words.tolist()) - {"", UNDETERMINED}
        if len(words) and said <= set(names):
            index = {name: number for number, name in enumerate(names)}
            return np.array([index.get(word, -1) for word in words.tolist()], np.intp)
        try:
            return self.assign(classes)
        except LabelError:
            if not said & set(names):
                raise
        raise LabelError(
            f"the label {min(said - set(names))!r:.200} is none of the classes",
            where=self.source,
            do=f"mend it: the classes are {', '.join(names)}, and {UNDETERMINED} where nobody can tell",
        )

    def _reader_for(self, classes: tuple[ClassRule, ...]) -> Callable[[str], Truth]:
        """`attribute`, with the rule shown that an unknown one stands in."""

        def look_up(name: str) -> Truth:
            rule = next(c.rule for c in classes if name in rules.attributes_of(c.rule))
            return self.attribute(name, rule=rule)

        return look_up

    def _values_of(self, column: str) -> list[str]:
        return [name for name in self.attribute_names() if name.startswith(f"{column}=")]

    def _several_genders(self, columns: list[str]) -> LabelError:
        return LabelError(
            f"more than one column says who is male: {', '.join(columns)}",
            where=self.source,
            do="let --classes name the values of one: " + ", ".join(n for c in columns for n in self._values_of(c)),
        )

    def _gender_columns(self) -> list[str]:
        """Columns that hold nothing but words for female and male."""
        found = []
        for column, values in self.columns.items():
            words = {value.lower() for value in np.unique(values)} - {"", UNDETERMINED}
            if words and words <= _MALE_WORDS | _FEMALE_WORDS and words & _MALE_WORDS and words & _FEMALE_WORDS:
                found.append(column)
        return found


def _equals(values: NDArray[np.str_], value: str) -> Truth:
    unknown = (values == "") | (values == UNDETERMINED)
    return np.where(unknown, np.int8(-1), (values == value).astype(np.int8)).astype(np.int8)


def _is_male(values: NDArray[np.str_]) -> Truth:
    meaning = dict.fromkeys(_MALE_WORDS, 1) | dict.fromkeys(_FEMALE_WORDS, 0)
    words, inverse = np.unique(values, return_inverse=True)
    return np.array([meaning.get(word.lower(), -1) for word in words], np.int8)[inverse]
