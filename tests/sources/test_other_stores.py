"""Stores beside S3: a stand-in for Google's that speaks what is asked of it here, and plain files on the web."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def served(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers with bytes; a range of them where one is asked for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        if status == 200 and (wanted := self.headers.get("Range")):
            begin, end = wanted.removeprefix("bytes=").split("-")
            status, body = 206, body[int(begin) : int(end) + 1]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Google(Quiet):
    """Objects of one bucket, listed two at a time: the JSON API's list, get and media, as its reference describes."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        _, found, rest = address.path.partition("storage/v1/b/bucket/o")
        key = unquote(rest.removeprefix("/"))
        if not found:
            self.answer(404, b"{}")
        elif not key:
            self.answer(200, json.dumps(self.listed(query)).encode())
        elif key not in self.objects:
            self.answer(404, b"{}")
        elif query.get("alt") == "media":
            self.answer(200, self.objects[key], "image/jpeg")
        else:
            self.answer(200, json.dumps(self.described(key)).encode())

    def described(self, key: str) -> dict[str, str]:
        return {"kind": "storage#object", "name": key, "bucket": "bucket", "size": str(len(self.objects[key]))}

    def listed(self, query: dict[str, str]) -> dict[str, object]:
        after = query.get("pageToken", "")
        keys = sorted(key for key in self.objects if key.startswith(query.get("prefix", "")) and key > after)
        more = {"nextPageToken": keys[1]} if len(keys) > 2 else {}
        return {"items": [self.described(key) for key in keys[:2]], **more}


@pytest.fixture
def google(odd: Path) -> Iterator[dict[str, str]]:
    """The environment of a command for which that stand-in is Google's store; it holds `odd` below ``odd/``."""
    pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    Google.objects = {f"odd/{p.relative_to(odd)}": p.read_bytes() for p in odd.rglob("*") if p.is_file()}
    Google.objects["odd/a/"] = b""
    with served(Google) as url:
        own = {"STORAGE_EMULATOR_HOST": url, "FSSPEC_GS_TOKEN": "anon", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield {**os.environ, **own}


def test_a_google_bucket_gives_the_bytes_of_the_folder(
    odd: Path, google: dict[str, str], classify: Run, tmp_path: Path
) -> None:
    """Listed in pages, in the order of the paths, and read."""
    assert classify(odd.parent, "photos", "--force").returncode == 0
    done = classify(tmp_path, "gs://bucket/odd", env=google)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.csv").read_bytes() == (odd.parent / "o.csv").read_bytes()


def test_nothing_there_is_told_on_google_too(google: dict[str, str], classify: Run, tmp_path: Path) -> None:
    """Without what the store's library logs."""
    done = classify(tmp_path, "gs://bucket/nothing", env=google)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["Error: no such file or folder", "  where: gs://bucket/nothing", "  do:    check the address"],
    )


@pytest.fixture
def web(plain: Path, tmp_path: Path) -> Iterator[str]:
    """`plain`'s photos, two archives of two each, and a page that leads to them."""
    root = tmp_path / "web"
    shutil.copytree(plain / "b", root / "b")
    for number in range(2):
        with tarfile.open(root / f"{number}.tar", "w") as archive:
            for path in sorted((plain / "b").iterdir())[2 * number : 2 * number + 2]:
                archive.add(path, path.name)

    class Web(Quiet):
        def do_GET(self) -> None:
            path = root / unquote(urlsplit(self.path).path).lstrip("/")
            if path.is_dir():
                self.answer(200, b'<a href="000.jpg">000.jpg</a>', "text/html")
            elif path.exists():
                self.answer(200, path.read_bytes(), "image/jpeg")
            else:
                self.answer(404, b"")

        def do_HEAD(self) -> None:
            self.do_GET()

    with served(functools.partial(Web)) as url:
        yield url


def test_photos_and_archives_on_the_web(web: str, plain_rows: bytes, classify: Run, tmp_path: Path) -> None:
    """Each where it is named, in any way; a ``?`` belongs to the address."""
    of_path = {row[0]: row[1:] for row in csv.reader(io.StringIO(plain_rows.decode()))}
    expected = [of_path[f"b/{number:03}.jpg"] for number in (0, 3, 6, 9)]
    assert classify(tmp_path, f"{web}/{{0..1}}.tar").returncode == 0
    with (tmp_path / "o.csv").open(newline="") as file:
        assert [row[1:] for row in csv.reader(file)][1:] == expected
    assert classify(tmp_path, f"{web}/b/000.jpg?key=a*b", f"{web}/b/003.jpg", "--force").returncode == 0
    with (tmp_path / "o.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [
            [f"{web}/b/000.jpg?key=a*b", *expected[0]],
            [f"{web}/b/003.jpg", *expected[1]],
        ]


@pytest.mark.parametrize(("path", "what"), [("b", "web page"), ("b/", "web page"), ("none.jpg", "no such file")])
def test_a_web_page_is_no_folder(web: str, classify: Run, tmp_path: Path, path: str, what: str) -> None:
    """What it leads to may be anything, and anywhere."""
    done = classify(tmp_path, f"{web}/{path}")
    assert done.returncode == 1
    assert what in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1] == f"  where: {web}/{path}"
