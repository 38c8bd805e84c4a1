"""Parts of a CSV in a store: each has the header and rows of whole photos; together, in order, they are the CSV."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gendercls.classify.objects import Objects, check_store
from gendercls.errors import DamagedRowError, OutputError
from gendercls.rows import read_records

FORMAT = (1, 0)

MANIFEST = "manifest.json"

_NAME = re.compile(r"(?:part-)?([0-9]{6,})-([0-9a-f]{8})\.csv")
_REMEDY = "restore it from a copy, or classify the photos again"


@dataclass(frozen=True, slots=True)
class Part:
    """An object of the CSV's rows. rows: without the header; size: in bytes; sha256: of its bytes."""

    name: str
    rows: int
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes, where: str) -> Part:
        """What an object of these bytes is. Raises DamagedRowError where it is no whole CSV. where: its address."""
        ends = [end for _, end in read_records(io.BytesIO(data), where)]
        if ends[-1:] != [len(data)]:
            raise DamagedRowError(
                "a part of the rows is cut off", where=where, do="repeat with --restart to begin anew"
            )
        return cls(name, len(ends) - 1, len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """All parts of a finished run, in order, and the CSV that they are together."""

    rows: int
    size: int
    sha256: str
    parts: tuple[Part, ...]

    def to_json(self) -> str:
        parts = [
            {"name": part.name, "rows": part.rows, "bytes": part.size, "sha256": part.sha256} for part in self.parts
        ]
        content = {"format": FORMAT, "rows": self.rows, "bytes": self.size, "sha256": self.sha256, "parts": parts}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Raises OutputError: it is damaged, or of a newer gendercls."""
        try:
            content = json.loads(text)
            if content["format"][0] != FORMAT[0]:
                raise OutputError("a newer gendercls wrote these parts", where=where, do="install the newest gendercls")
            parts = tuple(
                Part(str(part["name"]), int(part["rows"]), int(part["bytes"]), str(part["sha256"]))
                for part in content["parts"]
            )
            return cls(int(content["rows"]), int(content["bytes"]), str(content["sha256"]), parts)
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise OutputError(f"the manifest is damaged: {error!r:.200}", where=where, do=_REMEDY) from None


def part_name(number: int, run: str, *, stays: bool) -> str:
    """Of a run's part, counted from 0; two runs on one output never write the same."""
    return f"{'part-' if stays else ''}{number:06}-{run}.csv"


def parts_of(names: Iterable[str], run: str | None = None) -> list[str]:
    """Those names that are of parts, of that run if one is given, in order."""
    found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    return [name for match, name in sorted(found, key=lambda pair: int(pair[0][1])) if run in (None, match[2])]


def number_of(name: str) -> int:
    """The number of a part of that name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is no part")
    return int(found[1])


def check_manifest(url: str) -> Manifest:
    """What a folder of parts holds. url: its address, which ends in ``/``.

    Raises:
        GenderclsError: the store cannot be reached.
        OutputError: the run is not finished, or the manifest is damaged.
    """
    check_store(url)
    text = Objects(lambda: None).read(url + MANIFEST)
    if text is None:
        raise OutputError(
            "there is no manifest of parts",
            where=url + MANIFEST,
            do="finish the run that writes them: repeat its command",
        )
    return Manifest.from_json(text.decode("utf-8", "replace"), url + MANIFEST)


def read_parts(url: str) -> Iterator[bytes]:
    """The bytes of the CSV whose parts lie in a folder of a store, one part at a time. url: as for `check_manifest`.

    Raises:
        GenderclsError: the store cannot be reached.
        OutputError: a part is missing or not what the manifest says, or there is no manifest.
    """
    manifest, objects, digest = check_manifest(url), Objects(lambda: None), hashlib.sha256()
    for number, part in enumerate(manifest.parts):
        data = objects.read(url + part.name)
        if data is None or hashlib.sha256(data).hexdigest() != part.sha256:
            what = "missing" if data is None else "not what the manifest says"
            raise OutputError(f"a part is {what}", where=url + part.name, do=_REMEDY)
        header, body = split(data)
        piece = body if number else header + body
        digest.update(piece)
        yield piece
    if digest.hexdigest() != manifest.sha256:
        raise OutputError("the parts are not the CSV that the manifest says", where=url + MANIFEST, do=_REMEDY)


def split(data: bytes) -> tuple[bytes, bytes]:
    """A part's header and what follows it."""
    end = data.find(b"\n") + 1
    return data[:end], data[end:]
