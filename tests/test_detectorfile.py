"""Getting the face detector: the right file or none, and what ``--faces`` says without it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

TRY_AGAIN = "  do:    check the network, or fetch the file by other means and name it with --face-model\n"


@pytest.fixture(scope="module")
def detector(shared: Path) -> Path:
    """The right file."""
    return shared.parent / "weights" / "yunet_n_640_640.onnx"


@pytest.fixture(scope="module")
def server(detector: Path) -> Iterator[str]:
    """The address of a server that has the right file, another, and one that breaks off."""
    right = detector.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/right": right, "/other": right + b"x", "/cut": right[:1000]}.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(right) if self.path == "/cut" else len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def download(tmp_path: Path, run_gendercls: Run) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``download(source)``: the command, with the user's data folder below ``tmp_path``."""
    home = {"XDG_DATA_HOME": str(tmp_path / "data"), "no_proxy": "127.0.0.1"}
    return lambda source: run_gendercls("faces", "download", "--from", source, env=home)


def test_the_right_file_is_kept_and_not_fetched_again(
    tmp_path: Path, download: Run, server: str, detector: Path, run_gendercls: Run, celeba: Path
) -> None:
    """Then ``--faces`` finds it by itself."""
    place = tmp_path / "data" / "gendercls" / "yunet_n_640_640.onnx"
    assert download(f"{server}/right").stderr == f"face detector: {place}\n"
    assert place.read_bytes() == detector.read_bytes()
    assert download("http://127.0.0.1:1/nobody").stderr == f"face detector: {place} (there already)\n"
    photo, home = celeba / "img_align_celeba" / "000002.jpg", {"XDG_DATA_HOME": str(tmp_path / "data")}
    done = run_gendercls("classify", photo, "--out", tmp_path / "o.csv", "--faces", "--quiet", env=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()[1].startswith(f"{photo},1,")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/cut", "the face detector cannot be fetched: the connection broke off after 1,000 of {size:,} bytes"),
        ("/none", "the face detector cannot be fetched: the server answers 404 Not Found"),
    ],
)
def test_what_cannot_be_fetched_says_why(
    tmp_path: Path, download: Run, server: str, detector: Path, path: str, reason: str
) -> None:
    """A connection that breaks off, an address without the file: nothing is kept."""
    done = download(server + path)
    reason = reason.format(size=detector.stat().st_size)
    assert (done.returncode, done.stderr) == (1, f"Error: {reason}\n  where: {server}{path}\n{TRY_AGAIN}")
    assert not list(tmp_path.rglob("*.onnx*"))


def test_ctrl_c_ends_it_as_it_ends_every_command(tmp_path: Path) -> None:
    """While a server takes its time: exit status 130, a line, and no file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)  # a command that never asks fails the test, and does not hold it
        source = f"http://127.0.0.1:{listener.getsockname()[1]}/slow"
        typed = [sys.executable, "-m", "gendercls", "faces", "download", "--from", source]
        home = {"XDG_DATA_HOME": str(tmp_path), "no_proxy": "127.0.0.1"}
        with subprocess.Popen(typed, stderr=subprocess.PIPE, text=True, env=os.environ | home) as command:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)  # it has asked, and waits
                command.send_signal(signal.SIGINT)
                _, said = command.communicate(timeout=60)
    assert (command.returncode, said) == (130, "Error: interrupted\n")
    assert not any(tmp_path.rglob("*"))


def test_without_network_it_says_so(tmp_path: Path, download: Run) -> None:
    """Nobody listens at that port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        source = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        done = download(source)
    refused = (
        f"Error: the face detector cannot be fetched: [Errno 111] Connection refused\n  where: {source}\n{TRY_AGAIN}"
    )
    assert (done.returncode, done.stderr) == (1, refused)


def test_no_address_is_an_error(download: Run) -> None:
    """As everything a person may type."""
    done = download("yunet.onnx")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: the face detector cannot be fetched: unknown url type: 'yunet.onnx'\n  where: yunet.onnx\n{TRY_AGAIN}"
    )


def test_another_file_is_not_kept(tmp_path: Path, download: Run, server: str, detector: Path) -> None:
    """A byte more than the right one has."""
    done = download(f"{server}/other")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: what came is another file: {detector.stat().st_size + 1:,} bytes whose SHA-256 is not "
        f"25a606a145a5b6d7…\n  where: {server}/other\n"
        "  do:    try again, or fetch the file by other means and name it with --face-model\n"
    )
    assert not list(tmp_path.rglob("*.onnx*"))


def test_without_the_detector_faces_says_what_to_type(tmp_path: Path, run_gendercls: Run, celeba: Path) -> None:
    """The one command, before any photo is read."""
    home = {"XDG_DATA_HOME": str(tmp_path)}
    done = run_gendercls("classify", celeba, "--out", tmp_path / "o.csv", "--faces", env=home)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: finding faces needs a face detector, which comes from its authors and not with gendercls\n"
        f"  where: {tmp_path}/gendercls/yunet_n_640_640.onnx\n"
        "  do:    get it once: gendercls faces download (0.3 MB), or name a file with --face-model\n"
    )


def test_a_downloaded_detector_that_changed_is_refused(
    tmp_path: Path, run_gendercls: Run, celeba: Path, detector: Path
) -> None:
    """Only a file that the person named may be another one."""
    place = tmp_path / "gendercls" / "yunet_n_640_640.onnx"
    place.parent.mkdir()
    place.write_bytes(detector.read_bytes() + b"x")
    home = {"XDG_DATA_HOME": str(tmp_path)}
    done = run_gendercls("classify", celeba, "--out", tmp_path / "o.csv", "--faces", env=home)
    assert done.stderr == (
        "Error: the face detector has changed since it was downloaded\n"
        f"  where: {place}\n  do:    get it again: gendercls faces download\n"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such face detector"),
        (b"no model", "the file is no face detector: no ONNX file, or not all in one, or far too large"),
        ("shipped", "the file is no face detector: no ONNX file, or not all in one, or far too large"),
        ("null", "the file is no YuNet face detector with an input of 640×640"),
    ],
)
def test_another_file_is_no_detector(
    tmp_path: Path, run_gendercls: Run, celeba: Path, null_model: Path, content: bytes | str | None, reason: str
) -> None:
    """A missing file, one that is no model, one that is too large, and a model of something else."""
    from gendercls.modelfile import shipped_model

    file = tmp_path / "x.onnx"
    if content is not None:
        models = {"shipped": shipped_model(), "null": null_model}
        file.write_bytes(content if isinstance(content, bytes) else models[content].read_bytes())
    done = run_gendercls("classify", celeba, "--out", tmp_path / "o.csv", "--faces", "--face-model", file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {reason}")
    assert f"\n  where: {file}\n  do:    " in done.stderr
