"""Every way in which gendercls refuses or fails, with the exit status each one means.

GenderclsError            1    the work could not be done
├── UsageError            2    the command was typed wrongly
├── PhotoError            1    one file could not become an array; classify writes it as a row and goes on
│   └── NotAPhotoError    1    the file is no photo at all, which is no failure
├── LabelError            1    a label file, a class rule or a split
├── ModelError            1    an ONNX file or a checkpoint
├── DeviceError           1    a processor or its libraries
├── OutputError           1    the result could not be written, or must not be overwritten
│   └── DamagedRowError   1    a line of it is none that was written; a run that goes on does it again
├── RecipeError           1    a training recipe
├── GateError             1    an exported model does not answer as its checkpoint does
├── MismatchError         1    verify found that a CSV is not what its model says
├── PhotosFailedError     3    with --strict, some photo failed
└── InterruptedRunError 130    stopped by the person; the message says how to continue
"""

from __future__ import annotations


class GenderclsError(Exception):
    """What was wrong in one line, where, and what to do about it."""

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        lines = [self.what.replace("\n", "\\n")]
        for label, text in (("where: ", self.where), ("do:    ", self.do)):
            if text:
                lines.append("  " + label + text.replace("\n", "\n         "))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.do))


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line of at most so many characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def _rebuild(kind: type[GenderclsError], what: str, where: str, do: str) -> GenderclsError:
    """Unpickle an error that crossed a process boundary; keyword-only fields need the detour."""
    return kind(what, where=where, do=do)


class UsageError(GenderclsError):
    """The command was typed wrongly."""

    exit_status = 2


class PhotoError(GenderclsError):
    """One file could not become an array; ``what`` is the row's ``error``."""


class NotAPhotoError(PhotoError):
    """The file is no photo: a sidecar, a text, a folder's leftovers."""

    def __init__(self, what: str = "not a photo", *, where: str = "", do: str = "") -> None:
        super().__init__(what, where=where, do=do)


class LabelError(GenderclsError):
    """A label file, a class rule or a split."""


class ModelError(GenderclsError):
    """An ONNX file or a checkpoint."""


class DeviceError(GenderclsError):
    """A processor or its libraries."""


class OutputError(GenderclsError):
    """The result could not be written, or must not be overwritten."""


class DamagedRowError(OutputError):
    """A line of the result is none that was written."""


class RecipeError(GenderclsError):
    """A training recipe."""


class GateError(GenderclsError):
    """An exported model does not answer as its checkpoint does."""


class MismatchError(GenderclsError):
    """A CSV is not what its model says of its photos."""


class PhotosFailedError(GenderclsError):
    """With ``--strict``, some photo failed."""

    exit_status = 3


class InterruptedRunError(GenderclsError):
    """Stopped by the person; the message says how to continue."""

    exit_status = 130
