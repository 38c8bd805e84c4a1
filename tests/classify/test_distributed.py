"""Many machines give the bytes of one, whatever dies meanwhile. The cluster is a real one, of two nodes here."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendercls.classify.options import ClassifyOptions
from gendercls.classify.run import classify
from gendercls.classify.task import Opened, Setup, open_with
from gendercls.classify.whole import Spread, Whole
from gendercls.errors import GenderclsError, OutputError, UsageError
from gendercls.modelfile import read_model_file
from gendercls.sources import Listing

pytestmark = pytest.mark.filterwarnings("ignore")  # of what Ray does within this process

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
COUNT = 100
TARS = ".{a,b}.tar.gz"
# Read by Python before anything else: decoders with faults that are asked for by a photo's width.
FAULTY = """
import ctypes, time
from PIL import ImageFile

real = ImageFile.ImageFile.load

def load(self):
    if self.width == 31:
        ctypes.string_at(0)
    elif self.width == 33:
        time.sleep(3600)
    elif self.width == 178:  # those of CelebA, so that there is time to kill something
        time.sleep(0.03)
    return real(self)

ImageFile.ImageFile.load = load
"""
HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # the first: 127.0.0.1 alone
QUICK = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}  # to see that a node is dead


@dataclass
class Nodes:
    """Two nodes of a core each; the driver is at the first."""

    cluster: Any
    second: Any
    environment: dict[str, str]

    def kill_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)

    def add_second(self) -> None:
        self.second = self.cluster.add_node(num_cpus=1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """The cluster; this process is connected to it."""
    faulty = tmp_path_factory.mktemp("faulty")
    (faulty / "sitecustomize.py").write_text(FAULTY)
    path = os.pathsep.join(filter(None, (str(faulty), os.environ.get("PYTHONPATH"))))
    environment = {**HERE, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        ray = pytest.importorskip("ray", reason="Ray is not installed")  # which reads the environment
        cluster = importlib.import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK}
        )
        found = Nodes(cluster, cluster.add_node(num_cpus=1), environment)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
        yield found
        ray.shutdown()
        cluster.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def photos(take: Take, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a text and a broken photo; the same in a zip, and in two tars that have to be unpacked."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    paths = take(folder, COUNT)
    (folder / "000050.txt").write_text("no photo")
    broken = folder / "000051_broken.jpg"
    broken.write_bytes(paths[50].read_bytes()[:900])
    names = sorted(path.name for path in folder.iterdir())
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for name in names:
            archive.write(folder / name, name)
    for part, some in (("a", names[: COUNT // 2]), ("b", names[COUNT // 2 :])):
        with tarfile.open(folder.with_suffix(f".{part}.tar.gz"), "w:gz") as archive:
            for name in some:
                archive.add(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def alone(photos: Path, null_model: Path) -> Callable[[str], bytes]:
    """``alone(".zip")``: what one machine makes of the photos in that form, with a model that costs nothing."""
    found: dict[str, bytes] = {}

    def run(form: str) -> bytes:
        if form not in found:
            out = photos.with_name(f"alone{form}.csv")
            go(photos.with_suffix(form), out, ray=None, model=null_model)
            found[form] = out.read_bytes()
        return found[form]

    return run


def go(source: Path, out: Path, **more: Any) -> None:
    """Classify on the cluster of this process, eight photos a task."""
    typed: dict[str, Any] = {"ray": "", "device": "cpu", "batch_size": 1, **more}
    classify(ClassifyOptions((str(source),), out, **typed), lambda progress: None)


def rows_in(out: Path) -> int:
    """How many rows are there of a run that goes on."""
    part = out.with_name(out.name + ".part")
    with suppress(FileNotFoundError):
        return max(0, part.read_bytes().count(b"\n") - 1)
    return 0


class Amid(threading.Thread):
    """Does something once rows are there. is_amid: whether the run still went on after that."""

    def __init__(self, out: Path, act: Callable[[], None]) -> None:
        super().__init__()
        self.out, self.act, self.is_amid = out, act, False
        self.start()

    def run(self) -> None:
        while rows_in(self.out) < 10 and not self.out.exists():
            time.sleep(0.01)
        self.act()
        self.is_amid = not self.out.exists()


# --- the same bytes -------------------------------------------------------------------------------------------------


def test_many_machines_give_the_bytes_of_one(photos: Path, tmp_path: Path, nodes: Nodes) -> None:
    """With the shipped model, which each worker opens once."""
    go(photos, tmp_path / "many.csv")
    go(photos, tmp_path / "one.csv", ray=None)
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


@pytest.mark.parametrize("form", [".zip", TARS])
def test_archives_do_too(
    form: str, photos: Path, tmp_path: Path, nodes: Nodes, alone: Callable[[str], bytes], null_model: Path
) -> None:
    """One whose members can be fetched by any node, and one that a node has to read whole."""
    go(photos.with_suffix(form), tmp_path / "o.csv", model=null_model)
    assert (tmp_path / "o.csv").read_bytes() == alone(form)


def test_faces_and_labels_too(photos: Path, tmp_path: Path, nodes: Nodes, shared: Path, celeba: Path) -> None:
    """A row for every face, the truth, and the photos that --limit leaves; an archive is then read here."""
    more = {
        "faces": True,
        "face_model": shared.parent / "weights" / "yunet_n_640_640.onnx",
        "labels": celeba / "list_attr_celeba.txt",
        "limit": 30,
    }
    for out, ray in (("one.csv", None), ("many.csv", "")):
        go(photos.with_suffix(TARS), tmp_path / out, ray=ray, **more)
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert b".jpg,1," in (tmp_path / "one.csv").read_bytes()


def test_failed_photos_are_retried(photos: Path, tmp_path: Path, nodes: Nodes, null_model: Path) -> None:
    """Those alone, and the rest stays as it is."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    go(folder, tmp_path / "o.csv", limit=60, model=null_model)
    (folder / "000051_broken.jpg").write_bytes((folder / "000051.jpg").read_bytes())
    go(folder, tmp_path / "o.csv", limit=60, model=null_model, retry_failed=True)
    go(folder, tmp_path / "whole.csv", limit=60, model=null_model, ray=None)
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


# --- what dies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", TARS])
def test_a_node_dies(
    form: str, photos: Path, tmp_path: Path, nodes: Nodes, alone: Callable[[str], bytes], null_model: Path
) -> None:
    """What it had under way is done by the other one."""
    kill = Amid(tmp_path / "o.csv", nodes.kill_second)
    go(photos.with_suffix(form), tmp_path / "o.csv", model=null_model)
    kill.join()
    nodes.add_second()
    assert kill.is_amid
    assert (tmp_path / "o.csv").read_bytes() == alone(form)


def workers() -> list[int]:
    """The processes of this machine that answer for photos."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(b"ray::answer"):
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("form", ["", TARS])
def test_a_worker_dies(
    form: str, photos: Path, tmp_path: Path, nodes: Nodes, alone: Callable[[str], bytes], null_model: Path
) -> None:
    """As when memory is short: no row says so, since no photo is to blame."""
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 5
        while not killed and time.monotonic() < until:
            for process in workers()[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    thread = Amid(tmp_path / "o.csv", kill)
    go(photos.with_suffix(form), tmp_path / "o.csv", model=null_model)
    thread.join()
    assert thread.is_amid
    assert killed
    assert (tmp_path / "o.csv").read_bytes() == alone(form)


@pytest.mark.parametrize("form", ["", TARS])
def test_the_command_dies(
    form: str, photos: Path, tmp_path: Path, nodes: Nodes, alone: Callable[[str], bytes], null_model: Path
) -> None:
    """Repeated, it goes on after the rows that are there."""
    out = tmp_path / "o.csv"
    typed = [str(photos.with_suffix(form)), "--out", str(out), "--model", str(null_model), "--device", "cpu"]
    more = ["--batch-size", "1", "--ray", nodes.cluster.address]
    command = [sys.executable, "-m", "gendercls", "classify", *typed, *more]
    with subprocess.Popen(command, env={**os.environ, **nodes.environment}) as process:
        while rows_in(out) < 20:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    kept = rows_in(out)
    assert 20 <= kept < COUNT
    go(photos.with_suffix(form), out, model=null_model)
    assert out.read_bytes() == alone(form)


def made(folder: Path, **faults: list[int]) -> Path:
    """A folder of 40 small photos, those with these numbers faulty, and the same in a tar."""
    folder.mkdir()
    width_of = {number: {"crash": 31, "hang": 33}[kind] for kind, numbers in faults.items() for number in numbers}
    with tarfile.open(folder.with_suffix(".tar.gz"), "w:gz") as archive:
        for number in range(40):
            image = Image.new("RGB", (width_of.get(number, 16), 16), (number, 90 - number, 0))
            image.save(folder / f"{number:03}.png")
            archive.add(folder / f"{number:03}.png", f"{number:03}.png")
    return folder


def test_a_photo_that_ends_its_worker_costs_its_row(
    tmp_path: Path, nodes: Nodes, null_model: Path, run_gendercls: Run
) -> None:
    """The same row as on one machine; in an archive too."""
    folder = made(tmp_path / "photos", crash=[12, 13], hang=[30])
    typed = ["classify", folder, "--model", null_model, "--device", "cpu", "--photo-timeout", "1.5", "--quiet"]
    done = run_gendercls(*typed, "--out", tmp_path / "one.csv", env=nodes.environment)
    assert done.returncode == 0, done.stderr
    one = (tmp_path / "one.csv").read_text()
    assert (one.count("crashed (SIGSEGV)"), one.count("took more than 1.5 s")) == (2, 1)
    for out, source in (("folder.csv", folder), ("tar.csv", folder.with_suffix(".tar.gz"))):
        go(source, tmp_path / out, model=null_model, photo_timeout=1.5)
        assert (tmp_path / out).read_text().replace(f"{source}!/", "") == one


# --- what is refused ------------------------------------------------------------------------------------------------


def test_photos_that_a_node_lacks_end_the_run(photos: Path, tmp_path: Path, nodes: Nodes, null_model: Path) -> None:
    """A descriptor of this process is a file that no other one has."""
    descriptor = 157
    with (photos / "000001.jpg").open("rb") as file:
        os.dup2(file.fileno(), descriptor)
    (tmp_path / "list.txt").write_text(f"/proc/self/fd/{descriptor}\n")
    try:
        with pytest.raises(GenderclsError) as caught:
            go(Path(f"@{tmp_path / 'list.txt'}"), tmp_path / "o.csv", model=null_model)
    finally:
        os.close(descriptor)
    assert caught.value.what == "a node of the cluster does not have the photos"
    assert caught.value.where.startswith("node ")
    assert caught.value.where.endswith(f") has no /proc/self/fd/{descriptor}")


def test_nodes_that_differ_are_refused(null_model: Path) -> None:
    """The message names both."""
    first = Opened("node 1 (a)", "cpu", "", 8, 0.0, "fp32", "", {"numpy": "1.0"})
    setup = Setup("", {"device": "cpu"}, None, None, "", 60.0, first)
    with pytest.raises(GenderclsError) as caught:
        open_with(setup, read_model_file(null_model), None, "node 2 (b)")
    numpy = importlib.import_module("numpy").__version__
    assert str(caught.value) == (
        "the nodes of the cluster are not alike, so their answers would not be those of one machine\n"
        f"  where: node 2 (b) has numpy {numpy}, node 1 (a) has 1.0\n"
        "  do:    install the same versions on all of them, or use those alone that are alike"
    )


def test_a_missing_library_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(GenderclsError) as caught:
        go(photos, tmp_path / "o.csv")
    assert caught.value.do == "pip install 'gendercls[ray]'"


def test_an_address_of_rays_client_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has to run on a machine of the cluster"):
        go(photos, tmp_path / "o.csv", ray="ray://head:10001")


def test_photos_taken_for_an_address(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        go(photos, tmp_path / "o.csv", ray=str(photos))
    assert caught.value.do == "type it last"


def test_a_cluster_that_is_not_there(photos: Path, tmp_path: Path, run_gendercls: Run) -> None:
    """One error, in our words, and nothing of Ray's own."""
    pytest.importorskip("ray", reason="Ray is not installed")
    done = run_gendercls("classify", photos, "--out", tmp_path / "o.csv", "--ray", "127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: there is no Ray cluster to work on: Connection refused\n"
        "  where: --ray 127.0.0.1:9\n"
        "  do:    check the address, as ray status shows it, and that Ray has the same version everywhere\n"
    )


# --- a cluster of this machine's own cores ---------------------------------------------------------------------------


def listening(group: int) -> set[str]:
    """The addresses, as the system writes them, at which processes of a group listen for connections."""
    listens = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listens[f"socket:[{fields[9]}]"] = fields[1].rpartition(":")[0]
    found = set()
    for process in processes_of(group):
        with suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    found.add(listens.get(os.readlink(descriptor), ""))
    return found - {""}


def processes_of(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(after_name[3]) == session and after_name[0] != "Z":
                found.append(int(folder.name))
    return found


def test_a_local_cluster_comes_and_goes(photos: Path, tmp_path: Path) -> None:
    """It listens on this machine alone, is silent, ends on Ctrl-C, and one machine goes on with what it began."""
    pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "o.csv"
    typed = [str(photos), "--out", str(out), "--device", "cpu", "--batch-size", "1", "--ray", "local"]
    command = [sys.executable, "-m", "gendercls", "classify", *typed]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, start_new_session=True, text=True, **output) as process:
        while rows_in(out) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGSTOP)  # lest it is done by the time that its addresses are found
        addresses = listening(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        os.killpg(process.pid, signal.SIGCONT)
        said, complained = process.communicate()
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert (process.returncode, said) == (130, "")
    lines = complained.splitlines()
    assert lines[0].startswith("Error: interrupted after ")
    assert lines[-1].startswith("  do:    continue with: gendercls classify ")
    assert len(lines) == 3
    until = time.monotonic() + 10
    while processes_of(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(process.pid) == []
    go(photos, out, ray=None)
    go(photos, tmp_path / "whole.csv", ray=None)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


# --- archives that pass by ------------------------------------------------------------------------------------------


def tar_of(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def begun(tmp_path: Path, *rows: str) -> list[list[str]]:
    """What a walk over two tars with a list between them gives after those rows: keys, those of a whole together."""
    listing = Listing([f"@{tmp_path / 'list.txt'}", str(tmp_path / "a.tar.gz"), str(tmp_path / "b.tar.gz")])
    walk = Spread(listing.sources)
    for row in rows:
        photo = walk.beside(row)
        assert photo is not None
        assert photo.key == row
    return [[p.key for p in item.photos()] if isinstance(item, Whole) else [item.key] for item in walk]


def test_a_run_goes_on_within_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it leaves out the photos that have rows, once it has seen that they are the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("1.jpg\n2.jpg\n")
    a, b = str(tar_of(tmp_path / "a.tar.gz", "x", "y", "z")), str(tar_of(tmp_path / "b.tar.gz", "x"))
    in_a = [f"{a}!/{name}" for name in "xyz"]
    assert begun(tmp_path) == [["1.jpg"], ["2.jpg"], in_a, [f"{b}!/x"]]
    assert begun(tmp_path, "1.jpg") == [["2.jpg"], in_a, [f"{b}!/x"]]
    assert begun(tmp_path, "1.jpg", "2.jpg", *in_a[:2]) == [in_a[2:], [f"{b}!/x"]]
    assert begun(tmp_path, "1.jpg", "2.jpg", *in_a, f"{b}!/x") == [[], []]
    for rows in ([f"{a}!/q"], [in_a[1]], [*in_a[:2], f"{b}!/x"]):  # another photo, another order, fewer of them
        with pytest.raises(OutputError, match="not those the run was begun with") as caught:
            begun(tmp_path, "1.jpg", "2.jpg", *rows)
        assert caught.value.where.startswith(f"{a}, of which ")
