"""The face detector's file: where it lies, how it is got, and that it is the right one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gendercls.errors import ModelError, OutputError
from gendercls.modelfile import scan_onnx
from gendercls.wholefile import whole_file

SOURCE = (
    "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
    "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/yunet_n_640_640.onnx"
)
"""The authors' own file, at a commit that does not change. Apache-2.0 (Wu, Peng & Yu 2023)."""

SHA256 = "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31"
_MOST_BYTES = 4_000_000  # twelve times what the right file has
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True, slots=True)
class DetectorFile:
    """A file of a face detector: where it lies, its bytes and their SHA-256."""

    path: Path
    data: bytes
    sha256: str


def downloaded_detector() -> Path:
    """Where ``gendercls faces download`` puts the file: in the user's data folder."""
    from platformdirs import user_data_path

    return user_data_path("gendercls", appauthor=False) / "yunet_n_640_640.onnx"


def read_detector(path: Path | None) -> DetectorFile:
    """The detector in a file; None takes the downloaded one, whose hash is checked.

    Raises:
        ModelError: there is no such file, it can be no detector, or the downloaded one has changed.
    """
    place = path or downloaded_detector()
    try:
        with place.open("rb") as file:
            data = file.read(_MOST_BYTES)  # what is larger is cut off, and so refused
    except FileNotFoundError:
        if path is None:
            raise ModelError(
                "finding faces needs a face detector, which comes from its authors and not with gendercls",
                where=str(place),
                do="get it once: gendercls faces download (0.3 MB), or name a file with --face-model",
            ) from None
        raise ModelError("no such face detector", where=str(path), do="check --face-model") from None
    except OSError as error:
        problem = f"the face detector cannot be read: {error.strerror}"
        raise ModelError(problem, where=str(place), do="check the path") from None
    sha256 = hashlib.sha256(data).hexdigest()
    if path is None and sha256 != SHA256:
        raise ModelError(
            "the face detector has changed since it was downloaded",
            where=str(place),
            do="get it again: gendercls faces download",
        )
    try:
        is_elsewhere = scan_onnx(data)[1]
    except (ValueError, IndexError):
        is_elsewhere = True
    if is_elsewhere:
        raise ModelError(
            "the file is no face detector: no ONNX file, or not all in one, or far too large",
            where=str(place),
            do="name another with --face-model, or get it: gendercls faces download",
        )
    return DetectorFile(place, data, sha256)


def download_detector(source: str = SOURCE, sha256: str = SHA256) -> tuple[Path, bool]:
    """Get the detector into the user's data folder: where it lies, and whether it had to be fetched.

    Raises:
        ModelError: it cannot be fetched, or what came is another file; nothing is kept of that.
        OutputError: it cannot be written.
    """
    place = downloaded_detector()
    if place.exists() and hashlib.sha256(place.read_bytes()).hexdigest() == sha256:
        return place, False
    data = _fetch(source)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(
            f"what came is another file: {len(data):,} bytes whose SHA-256 is not {sha256[:16]}…",
            where=source,
            do="try again, or fetch the file by other means and name it with --face-model",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as file:
            file.write(data)
    except OSError as error:
        raise OutputError(
            f"the face detector cannot be written: {error.strerror}", where=str(place), do="make the folder writable"
        ) from None
    return place, True


def _fetch(source: str) -> bytes:
    import http.client  # here, since every command that classifies imports this module, and next to none fetches
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(source, timeout=_TIMEOUT) as answer:  # noqa: S310 - its hash is checked
            data: bytes = answer.read(_MOST_BYTES)
            promised = int(answer.headers.get("Content-Length") or len(data))
    except urllib.error.HTTPError as error:
        reason = f"the server answers {error.code} {error.reason}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
    else:
        if len(data) == min(promised, _MOST_BYTES):
            return data
        reason = f"the connection broke off after {len(data):,} of {promised:,} bytes"
    raise ModelError(
        f"the face detector cannot be fetched: {reason}",
        where=source,
        do="check the network, or fetch the file by other means and name it with --face-model",
    )
