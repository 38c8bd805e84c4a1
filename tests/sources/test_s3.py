"""Objects read by obstore with what s3fs knows: the same bytes as by s3fs, or nothing, and then s3fs is asked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("obstore", reason="obstore is not installed")

from gendercls.sources import s3

Store = Any

KEYS = [
    "b c.jpg",
    "d#e.jpg",
    "f?g.jpg",
    "h%20i.jpg",
    "%41.jpg",
    "j+k.jpg",
    'q"r.jpg',
    "st*r.jpg",
    "ü/日本.jpg",
    "a\\b.jpg",
]
UNREADABLE = ["/slash.jpg", "x//y.jpg", "./dot.jpg", "tab\t.jpg"]


def asked(env: Mapping[str, str], *addresses: str, begin: int = 0, end: int = 100) -> list[bytes | None]:
    """What another process reads of each address."""
    code = (
        "import sys\nfrom gendercls.sources.s3 import read_range\n"
        f"print([read_range(url, {begin}, {end}, 20.0) for url in sys.argv[1:]])"
    )
    done = subprocess.run([sys.executable, "-c", code, *addresses], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[bytes | None] = ast.literal_eval(done.stdout)
    return found


def test_names_are_read_as_they_are(store: Store) -> None:
    """Also those that an address would read otherwise, beside objects of the names that they would be taken for."""
    for key in [*KEYS, "A.jpg", "h i.jpg"]:
        store.put(f"s3/{key}", key.encode())
    assert asked(store.env, *(f"s3://bucket/s3/{key}" for key in KEYS)) == [key.encode() for key in KEYS]


def test_names_that_obstore_changes_are_left(store: Store) -> None:
    """It takes off a slash at the beginning, and would read this object."""
    store.put("slash.jpg", b"another")
    assert asked(store.env, *(f"s3://bucket/{key}" for key in UNREADABLE)) == [None] * len(UNREADABLE)


def test_ranges(store: Store) -> None:
    store.put("s3/range.bin", bytes(range(50)))
    url = "s3://bucket/s3/range.bin"
    assert asked(store.env, url, begin=10, end=20) == [bytes(range(10, 20))]
    assert asked(store.env, url, begin=40, end=51) == [bytes(range(40, 50))]
    assert asked(store.env, url, "s3://bucket/s3/none.bin", "s3://none/range.bin", begin=50, end=60) == [None] * 3


# --- who asks ---------------------------------------------------------------------------------------------------


class _Recording(BaseHTTPRequestHandler):
    """Answers every range with ``abc``. seen: what the requests were signed with."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        self.send_response(206)
        for name, value in (("Content-Length", "3"), ("Content-Range", "bytes 0-2/3"), ("ETag", '"e"')):
            self.send_header(name, value)
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(b"abc")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and what was seen."""
    handler = type("Handler", (_Recording,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.seen
        server.shutdown()
        thread.join()


def test_credentials_are_those_of_s3fs(store: Store, server: tuple[str, list[str]], tmp_path: Path) -> None:
    """Of a profile, which obstore itself does not read."""
    url, seen = server
    profile = tmp_path / "credentials"
    profile.write_text("[mine]\naws_access_key_id = OWNKEY\naws_secret_access_key = s\naws_session_token = t\n")
    env = {name: value for name, value in store.env.items() if not name.startswith("AWS_")}
    env |= {"AWS_ENDPOINT_URL": url, "AWS_SHARED_CREDENTIALS_FILE": str(profile), "AWS_PROFILE": "mine"}
    env |= {"AWS_REGION": "eu-south-1", "AWS_DEFAULT_REGION": "eu-south-1"}
    assert asked(env, "s3://bucket/a.jpg") == [b"abc"]
    [signed] = seen
    assert "Credential=OWNKEY/" in signed
    assert "/eu-south-1/s3/" in signed


def test_anonymous_requests_are_not_signed(store: Store, server: tuple[str, list[str]]) -> None:
    url, seen = server
    assert asked({**store.env, "AWS_ENDPOINT_URL": url, "FSSPEC_S3_ANON": "true"}, "s3://bucket/a.jpg") == [b"abc"]
    assert seen == [""]


def test_settings_that_are_not_passed_on_leave_it_to_s3fs(store: Store) -> None:
    store.put("s3/paid.jpg", b"paid")
    env = {**store.env, "FSSPEC_S3_REQUESTER_PAYS": "true"}
    assert asked(env, "s3://bucket/s3/paid.jpg") == [None]


# --- failures ---------------------------------------------------------------------------------------------------


class _Failing:
    """In place of obstore's store; asked: how often it was."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = True


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> tuple[s3.Bucket, _Failing]:
    import obstore

    state = _Failing()

    def get_range(*_: object, **__: object) -> bytes:
        state.asked += 1
        if state.fails:
            raise OSError("no")
        return b"abc"

    bucket = object.__new__(s3.Bucket)
    bucket._store, bucket._failures, bucket._left_out = None, 0, 0  # type: ignore[assignment]
    monkeypatch.setattr(obstore, "get_range", get_range)
    return bucket, state


def test_what_never_works_costs_nothing_in_the_end(failing: tuple[s3.Bucket, _Failing]) -> None:
    bucket, state = failing
    assert {bucket.read("a", 0, 3) for _ in range(10_000)} == {None}
    assert state.asked < 25


def test_what_works_again_is_used_again(failing: tuple[s3.Bucket, _Failing]) -> None:
    bucket, state = failing
    for _ in range(10_000):
        bucket.read("a", 0, 3)
    state.fails = False
    answers = [bucket.read("a", 0, 3) for _ in range(2_000)]
    assert answers[1_024:] == [b"abc"] * 976
