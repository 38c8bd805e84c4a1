"""Nothing leaves the machine, and a file that is not finished is its owner's alone."""

from __future__ import annotations

import ast
import errno
import os
import platform
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gendercls
from gendercls.answers import answers_for
from gendercls.classify.output import Journal
from gendercls.rows import Columns, Row
from gendercls.wholefile import whole_file

PACKAGE = Path(gendercls.__file__).parent
NO_FILTER = 77
# Becomes the command that it is given, in which the system ends every process that asks for a connection of any kind,
# or for a socket of the internet. An instruction of seccomp: what, how far to jump if so, and if not so, with what.
NO_NETWORK = """
import ctypes, os, struct, sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # where they are in struct seccomp_data
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
architecture, connect, socket = {"x86_64": (0xC000003E, 42, 41), "aarch64": (0xC00000B7, 203, 198)}[os.uname().machine]
AF_INET, AF_INET6 = 2, 10
program = [
    (LOAD, 0, 0, ARCHITECTURE),
    (EQUAL, 0, 7, architecture),
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 5, 0, connect),
    (EQUAL, 0, 3, socket),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (EQUAL, 2, 0, AF_INET),
    (EQUAL, 1, 0, AF_INET6),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, KILL_PROCESS),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
libc, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = ctypes.CDLL(None), 38, 22, 2
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, MODE_FILTER, filter, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


Run = Callable[..., subprocess.CompletedProcess[str]]
SILENCING = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME")
CLASSIFY = ("--limit", "3", "--device", "cpu", "--quiet")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's own folder; it is empty."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def isolated(home: Path) -> Run:
    """``isolated(*args)``: Python with these arguments, as a user has it who lives in `home`; a connection ends it."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"the system calls of {platform.system()} on {platform.machine()} have other numbers")
    # Packages that report on their users leave the machines alone that say so, or run tests.
    environment = {name: value for name, value in os.environ.items() if name not in SILENCING} | {"HOME": str(home)}

    def run(*python: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", NO_NETWORK, *map(str, python)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    if run("-c", "").returncode == NO_FILTER:
        pytest.skip("this system takes no filter of system calls")
    return run


@pytest.fixture(scope="module")
def rows(small_data: Path, run_gendercls: Run, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the command writes about three photos where nothing is forbidden."""
    out = tmp_path_factory.mktemp("privacy") / "preds.csv"
    run_gendercls("classify", small_data, "--out", out, *CLASSIFY).check_returncode()
    return out.read_bytes()


# --- the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "connect",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6)",
        "socket.socket(socket.AF_UNIX).connect('/nowhere')",
    ],
)
def test_a_process_that_connects_is_ended(isolated: Run, connect: str) -> None:
    """The recorder of system calls, on which the next test relies, sees them; it lets all others pass."""
    assert isolated("-c", f"import socket; {connect}").returncode == -signal.SIGSYS
    assert isolated("-c", "import socket; socket.socketpair(); print('here')").stdout == "here\n"


def test_commands_ask_for_no_connection(
    isolated: Run, home: Path, small_data: Path, rows: bytes, tmp_path: Path
) -> None:
    """classify, info and doctor end well, and with the same rows, where a connection ends them."""
    out = tmp_path / "preds.csv"
    for typed in (("classify", small_data, "--out", out, *CLASSIFY), ("info",), ("doctor",)):
        done = isolated("-m", "gendercls", *typed)
        assert done.returncode == 0, done.stderr
        assert "crashed" not in done.stderr
    assert out.read_bytes() == rows
    assert os.listdir(home) == []


def test_a_report_asks_for_no_connection(isolated: Run, small_run: Path, tmp_path: Path) -> None:
    """So does report, about a training run."""
    done = isolated("-m", "gendercls", "report", small_run, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr


def test_without_any_network_the_rows_are_the_same(small_data: Path, rows: bytes, tmp_path: Path) -> None:
    """In a namespace without an interface, where not even this machine is reached, classify writes the same bytes."""
    alone = ["unshare", "-n" if os.geteuid() == 0 else "-rn", sys.executable]
    reach = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 9)))"
    try:
        tried = subprocess.run([*alone, "-c", reach], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if tried.returncode:
        pytest.skip(f"the system gives no namespace: {tried.stderr.strip()}")
    assert int(tried.stdout) == errno.ENETUNREACH
    out = tmp_path / "preds.csv"
    typed = ["-m", "gendercls", "classify", str(small_data), "--out", str(out), *CLASSIFY]
    done = subprocess.run([*alone, *typed], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_bytes() == rows


def test_what_runs_in_this_process_stays_here() -> None:
    """Tests of training, of exporting and of the audit run them so: whatever connects beyond this machine raises."""
    with socket.socket() as unconnected:
        unconnected.settimeout(1)
        with pytest.raises(RuntimeError, match="reaches beyond this machine"):
            unconnected.connect(("192.0.2.1", 80))


# --- files that are not finished --------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """What the user keeps from others."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_is_private_until_it_has_its_name(tmp_path: Path, umask: int) -> None:
    """Then its mode is what the umask gives; what a killed process left is not written to."""
    path, temporary = tmp_path / "page.html", tmp_path / "page.html.tmp"
    temporary.touch()
    temporary.chmod(0o666)
    with whole_file(path) as file, temporary.open("rb") as left:
        file.write(b"mine")
        file.flush()
        assert mode(temporary) == 0o600
        assert left.read() == b"mine"
    assert mode(path) == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize("chosen", [0o600, 0o644, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, umask: int, chosen: int) -> None:
    """Whoever closed it, or opened it, has it so."""
    path = tmp_path / "page.html"
    path.touch()
    path.chmod(chosen)
    with whole_file(path) as file:
        file.write(b"mine")
    assert mode(path) == chosen


def test_rows_are_private_until_all_are_there(tmp_path: Path, umask: int) -> None:
    """The unfinished CSV is, also after a retry; the finished one and its record have the mode that the umask gives."""
    columns = Columns(answers_for(False, ("female", "male")), has_truth=False)
    journal = Journal(tmp_path / "o.csv", columns, {"inputs": ["photos"]}, 0.0)
    journal.begin(restart=False, force=False)
    journal.append([Row("a.jpg", "", "", (), error="empty file")])
    assert mode(journal.part) == 0o600
    journal.rewrite(lambda rows: rows)
    assert mode(journal.part) == 0o600
    journal.finish({})
    assert [mode(tmp_path / name) for name in ("o.csv", "o.csv.run.json")] == [0o666 & ~umask] * 2
    assert sorted(os.listdir(tmp_path)) == ["o.csv", "o.csv.run.json"]


def test_every_file_is_written_in_one_way() -> None:
    """Only `wholefile` opens files to write; besides, rows go on in a file that is there, and a folder is private."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        if makers := [ast.unparse(call) for call in calls if makes_a_file(call)]:
            found[path.relative_to(PACKAGE).as_posix()] = makers
    assert found.pop("wholefile.py")
    assert found == {
        "classify/disk.py": ["path.open('r+b')"],
        "export/quantise.py": ["tempfile.TemporaryDirectory()"],
    }


def makes_a_file(call: ast.Call) -> bool:
    """Whether a call looks like one that makes a file or changes it."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name in ("open", "fdopen"):
        words = [
            word.value for word in ast.walk(call) if isinstance(word, ast.Constant) and isinstance(word.value, str)
        ]
        return "O_CREAT" in ast.unparse(call) or any(
            set(word) <= set("rwxabt+") and set(word) & set("wxa+") for word in words
        )
    return name in ("write_text", "write_bytes", "touch", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory")
