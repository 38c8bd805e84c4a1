"""Class rules: a class is a boolean rule over attributes, such as ``young-man = "Male & Young"``.

Grammar, loosest first:  or ``|``  ·  and ``&``  ·  not ``!``  ·  ``( … )``  ·  an attribute (``Male``, ``age=20-29``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import LabelError

NONE = "none"
"""The label of a photo that has none of a model's independent attributes, so none of those may be called so."""
ALL_ATTRIBUTES = "all"
"""What ``--classes`` says for a model of independent attributes: every yes-or-no attribute of the labels is a class."""

OPINIONS = frozenset(
    {
        # Taste, and an age that nobody asked for.
        *("Attractive", "Young"),
        # A feature against what the labeller takes for usual, which differs between peoples and between labellers.
        *("Big_Lips", "Big_Nose", "Pointy_Nose", "Narrow_Eyes", "High_Cheekbones", "Oval_Face"),
        # A matter of degree for which no line was drawn; the light of the photo often decides.
        *("Chubby", "Double_Chin", "Bags_Under_Eyes", "Bushy_Eyebrows", "Heavy_Makeup", "Pale_Skin", "Rosy_Cheeks"),
    }
)
"""CelebA's attributes that are a labeller's opinion rather than something that a second labeller would see too."""

_RESERVED = dict.fromkeys(("uncertain", "failed", "no face", "no-face"), "rows without an answer")
_RESERVED_AMONG_ATTRIBUTES = _RESERVED | {NONE: "photos that have no attribute"}
_MOST_TOKENS = 200  # far beyond any sense, and short of Python's recursion limit however they nest
_OPERATORS = frozenset("&|!()")
_TOKENS = re.compile(r"\s*([&|!()]|[^&|!()]+)")

Truth = NDArray[np.int8]
"""One value per photo: 1 true, 0 false, -1 unknown."""


@dataclass(frozen=True, slots=True)
class ClassRule:
    """A class name and the rule that says which photos belong to it."""

    name: str
    rule: str


DEFAULT_CLASSES = (ClassRule("female", "!Male"), ClassRule("male", "Male"))


def parse_classes(text: str) -> tuple[ClassRule, ...]:
    """``'young-man=Male&Young;young-woman=!Male&Young'`` → rules, in order.

    Raises:
        LabelError: fewer than two classes, a name used twice, reserved or with a space, or a rule that does not parse.
    """
    rules = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, rule = part.partition("=")
        if not equals or not rule.strip():
            raise LabelError(
                f"the class {part!r} has no rule",
                where=f"--classes {text!r}",
                do="write NAME=RULE, separated by ';', as in 'female=!Male;male=Male'; "
                f"or {ALL_ATTRIBUTES} alone, for a model of every attribute",
            )
        rules.append(ClassRule(name.strip(), rule.strip()))
    return check_classes(rules)


def each_attribute(names: Iterable[str], source: str) -> tuple[ClassRule, ...]:
    """One class for each attribute, of its name with ``_`` for spaces.

    Args:
        names: the attributes, in order.
        source: whose they are, for the message.

    Raises:
        LabelError: fewer than two attributes, or a name that no class or no rule can have.
    """
    rules = tuple(ClassRule("_".join(name.split()), name) for name in names)
    _check_names(rules, _RESERVED_AMONG_ATTRIBUTES, source, "rename the attribute's column")
    for rule in rules:
        if not _OPERATORS.isdisjoint(rule.rule):
            raise LabelError(
                f"the attribute {rule.rule!r} cannot be named in a class rule, where & | ! ( ) mean something",
                where=source,
                do="rename the attribute's column",
            )
    if len(rules) < 2:
        raise LabelError(
            f"--classes {ALL_ATTRIBUTES} needs two or more yes-or-no attributes; these labels have "
            + (f"only {rules[0].rule!r}" if rules else "none"),
            where=source,
            do="name classes by rules, as in --classes 'smiling=Smiling;serious=!Smiling'",
        )
    return rules


def check_classes(rules: Iterable[ClassRule], *, independent: bool = False) -> tuple[ClassRule, ...]:
    """The same rules, once their names and their grammar are sound. Raises LabelError.

    Args:
        rules: two or more.
        independent: whether a photo may belong to several of them, or to none, which is called `NONE`.
    """
    checked = tuple(rules)
    reserved = _RESERVED_AMONG_ATTRIBUTES if independent else _RESERVED
    _check_names(checked, reserved, "--classes", "choose another name, such as 'young-man'")
    for rule in checked:
        _Parser(rule.rule).tree()
    if len(checked) < 2:
        raise LabelError(
            f"{len(checked)} {'class' if len(checked) == 1 else 'classes'} given; a classifier needs two or more",
            where="--classes",
            do="give one rule per class, as in 'female=!Male;male=Male'",
        )
    return checked


def _check_names(rules: Iterable[ClassRule], reserved: Mapping[str, str], where: str, do: str) -> None:
    seen: set[str] = set()
    for rule in rules:
        name, problem = rule.name, ""
        if not name or any(character.isspace() for character in name):
            problem = "must be one word without spaces"
        elif name in reserved:
            problem = f"is kept for {reserved[name]}"
        elif not name.isprintable():
            problem = "has characters that cannot be printed"
        elif name in seen:
            problem = "is given twice"
        if problem:
            raise LabelError(f"the class name {name!r} {problem}", where=where, do=do)
        seen.add(name)


def opinions_in(classes: Iterable[ClassRule]) -> list[str]:
    """The attributes read by these classes that are opinions, as the rules spell them, in order."""
    plain = {name.lower() for name in OPINIONS}
    read = dict.fromkeys(name for c in classes for name in attributes_of(c.rule))
    return [name for name in read if "_".join(name.lower().split()) in plain]


def attributes_of(rule: str) -> Iterator[str]:
    """The attributes a rule reads, in the order written. Raises LabelError when it does not parse."""
    yield from _leaves(_Parser(rule).tree())


def evaluate(rule: str, look_up: Callable[[str], Truth]) -> Truth:
    """The rule's value for every photo: int8 ``[N]`` of 1, 0 and -1 (unknown), by Kleene's three-valued logic.

    Args:
        rule: as the user wrote it.
        look_up: an attribute's name → its int8 ``[N]`` values; raises LabelError for one that is not there.
    """
    return _value(_Parser(rule).tree(), look_up)


def assign(rules: tuple[ClassRule, ...], look_up: Callable[[str], Truth], keys: list[str]) -> NDArray[np.intp]:
    """Each photo's class: ``[N]`` indices into ``rules``, -1 where no rule covers the photo.

    Raises:
        LabelError: two rules cover the same photo, or a rule reads an attribute that is not there.
    """
    covered = np.stack([evaluate(rule.rule, look_up) == 1 for rule in rules])
    twice = np.flatnonzero(covered.sum(axis=0) > 1)
    if twice.size:
        first, second = np.flatnonzero(covered[:, twice[0]])[:2]
        both = int((covered[first] & covered[second]).sum())
        shared = f"{both:,} {'photo is' if both == 1 else 'photos are'} in both"
        raise LabelError(
            f"the classes {rules[first].name!r} and {rules[second].name!r} overlap: {shared}",
            where=f"{rules[first].rule!r} and {rules[second].rule!r}, for example at {keys[twice[0]]}",
            do="make the rules exclude each other, for example with '& !…'",
        )
    return np.where(covered.any(axis=0), covered.argmax(axis=0), -1)


def unknown_attribute(name: str, known: Iterable[str], where: str, rule: str = "") -> LabelError:
    """The error for an attribute that is not there, with the nearest name that is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or _same_but_for_case(name, names)
    hint = f"did you mean {near[0]!r}?" if near else "the attributes are: " + ", ".join(names[:60])
    at = next((at for token, at in _Parser(rule).tokens if token == name), None)
    place = where if at is None else f"{where}\n{_caret(rule, at, len(name))}"
    return LabelError(f"no attribute {name!r}", where=place, do=hint)


def _same_but_for_case(name: str, names: list[str]) -> list[str]:
    return [other for other in names if other.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class _Attribute:
    name: str


@dataclass(frozen=True, slots=True)
class _Not:
    rule: _Node


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two rules joined by ``&`` or ``|``."""

    operator: str
    left: _Node
    right: _Node


_Node = _Attribute | _Not | _Pair


class _Parser:
    """Recursive descent over a rule; errors point at the character."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.tokens = [(match[1].strip(), match.start(1)) for match in _TOKENS.finditer(rule) if match[1].strip()]
        self.position = 0
        if len(self.tokens) > _MOST_TOKENS:
            raise LabelError(
                f"the class rule has {len(self.tokens):,} parts; {_MOST_TOKENS} are the limit",
                where=rule[:40] + "…",
                do="make it shorter",
            )

    def tree(self) -> _Node:
        node = self._either()
        if self.position < len(self.tokens):
            raise self._wrong("nothing more was expected here")
        return node

    def _peek(self) -> str:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""

    def _either(self) -> _Node:
        node = self._both()
        while self._peek() == "|":
            self.position += 1
            node = _Pair("|", node, self._both())
        return node

    def _both(self) -> _Node:
        node = self._single()
        while self._peek() == "&":
            self.position += 1
            node = _Pair("&", node, self._single())
        return node

    def _single(self) -> _Node:
        word = self._peek()
        if word == "!":
            self.position += 1
            return _Not(self._single())
        if word == "(":
            self.position += 1
            node = self._either()
            if self._peek() != ")":
                raise self._wrong("a ')' is missing here")
            self.position += 1
            return node
        if word in ("", "&", "|", ")"):
            raise self._wrong("an attribute was expected here")
        self.position += 1
        return _Attribute(word)

    def _wrong(self, what: str) -> LabelError:
        at = self.tokens[self.position][1] if self.position < len(self.tokens) else len(self.rule)
        return LabelError(
            f"the class rule does not parse: {what}",
            where=_caret(self.rule, at, 1),
            do="combine attributes with & (and), | (or), ! (not) and ( )",
        )


def _caret(rule: str, at: int, length: int) -> str:
    return f"{rule}\n{' ' * at}{'^' * length}"


def _leaves(node: _Node) -> Iterator[str]:
    match node:
        case _Attribute(name):
            yield name
        case _Not(rule):
            yield from _leaves(rule)
        case _Pair(_, left, right):
            yield from _leaves(left)
            yield from _leaves(right)


def _value(node: _Node, look_up: Callable[[str], Truth]) -> Truth:
    match node:
        case _Attribute(name):
            return look_up(name)
        case _Not(rule):
            value = _value(rule, look_up)
            return np.where(value < 0, -1, 1 - value).astype(np.int8)
        case _Pair(operator, left, right):
            first, second = _value(left, look_up), _value(right, look_up)
            decisive = 0 if operator == "&" else 1
            decided = (first == decisive) | (second == decisive)
            unknown = (first < 0) | (second < 0)
            return np.where(decided, decisive, np.where(unknown, -1, 1 - decisive)).astype(np.int8)


def classes_to_json(rules: Iterable[ClassRule]) -> list[Mapping[str, str]]:
    """Rules as the model file and the checkpoint keep them."""
    return [{"name": rule.name, "rule": rule.rule} for rule in rules]
