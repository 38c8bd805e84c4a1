"""Where the shared photos are, the command as a user runs it, and a browser for the pages it writes."""

from __future__ import annotations

import logging
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    import onnx
    from playwright.sync_api import Browser, Page

    from gendercls.modelfile import ModelFile
    from gendercls.train.network import CalibratedNetwork
    from gendercls.train.run import TrainOptions

RunGendercls = Callable[..., subprocess.CompletedProcess[str]]
RunBenchmark = Callable[..., subprocess.CompletedProcess[str]]


def stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse connections beyond this machine to all that runs in this process, training and export among it."""
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        raise RuntimeError(f"a test reaches beyond this machine: {arguments[1]}")


sys.addaudithook(stay_here)

# A shell's background job ignores Ctrl-C, and so would all that the tests start, which is what some of them ask of it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# readline, which pytest loads, sets them for the processes that pytest starts, in place of a terminal's own size.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# That a machine is busy, as with the tests beside it, is no fault of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


# One test, or one long chain, is most of each. They come first, so that neither of two processes ends long before the
# other.
LONG = ("test_readme.py", "test_parallel.py", "test_instructions.py", "test_main_job.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and labels beside the checkout; absent on a user's machine, never in CI."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        reason = f"the shared photos are not at {folder}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def celeba(shared: Path) -> Path:
    """8,000 real CelebA photos in the official layout."""
    return shared / "celeba-8k"


@pytest.fixture(scope="session")
def fairface(shared: Path) -> Path:
    """40,000 train and 2,500 val photos of FairFace."""
    return shared / "fairface"


@pytest.fixture(scope="session")
def run_gendercls() -> RunGendercls:
    """``run_gendercls(*args, cwd=…, env=…)``: the command in a process of its own; env is added to this one's."""

    def run(
        *args: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gendercls", *map(str, args)]
        return subprocess.run(
            command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def run_benchmark() -> RunBenchmark:
    """``run_benchmark(name, *args)``: a script of benchmarks/, which finds its neighbours as a person's run does."""

    def run(name: str, *args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(Path(__file__).parents[1] / "benchmarks" / name), *map(str, args)]
        env = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def run_on_terminal() -> Callable[..., tuple[int, str]]:
    """``run_on_terminal(*args, cwd=…)``: the command's status, and all that reached a terminal of 1,000 columns."""

    def run(*args: object, cwd: Path | None = None) -> tuple[int, str]:
        terminal, side = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 1000, 0, 0))
        command = [sys.executable, "-m", "gendercls", *map(str, args)]
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        with subprocess.Popen(command, cwd=cwd, env=environment, stdin=side, stdout=side, stderr=side) as process:
            os.close(side)
            shown = b""
            while part := _read_terminal(terminal):
                shown += part
        os.close(terminal)
        return process.returncode, shown.decode("utf-8", "surrogateescape")

    return run


def _read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody holds its other side any more
        return b""


# --- a store ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class S3:
    """A store of its own on this machine. env: with which a process reaches it; system: fsspec's way in."""

    env: dict[str, str]
    system: Any

    def bucket(self, name: str) -> str:
        """The address of a bucket, which is made, and empty."""
        if self.system.exists(name):
            self.system.rm(name, recursive=True)
        self.system.mkdir(name)
        return f"s3://{name}"

    def files(self, url: str) -> dict[str, bytes]:
        """All that lies below an address, by what follows it."""
        root = url.removeprefix("s3://").rstrip("/")
        return {path.removeprefix(root): self.system.cat_file(path) for path in self.system.find(root)}


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A server of S3's protocol on loopback, as clients of the real one see it."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto's server is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # which tells of each request
    moto = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    env = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    known = {"key": env["AWS_ACCESS_KEY_ID"], "secret": env["AWS_SECRET_ACCESS_KEY"]}
    system = fsspec.filesystem("s3", endpoint_url=env["AWS_ENDPOINT_URL"], use_listings_cache=False, **known)
    yield S3(env, system)
    moto.stop()


# --- a browser --------------------------------------------------------------------------------------------------

# Chromium asks its maker for this and that by itself.
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Visit:
    """A page in the browser. requested: addresses beside its own; said: what its scripts wrote, raised or alerted."""

    page: Page
    requested: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium without a window; the tests that need it are skipped where it is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    home = str(tmp_path_factory.mktemp("chromium"))  # nothing of it in the user's own
    environment = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=QUIET, env=environment)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """``visit(path, **options)``: that file, opened with no network; options are those of a context of playwright."""
    contexts = []

    def open_page(path: Path, **options: Any) -> Visit:
        contexts.append(browser.new_context(offline=True, **options))
        made = Visit(contexts[-1].new_page())
        address = path.resolve().as_uri()
        made.page.on("request", lambda request: made.requested.append(request.url))
        made.page.on("console", lambda message: made.said.append(message.text))
        made.page.on("pageerror", lambda error: made.said.append(error.message))
        made.page.on("dialog", lambda dialog: (made.said.append(dialog.message), dialog.dismiss()))
        made.page.goto(address)
        assert made.requested.pop(0) == address
        return made

    yield open_page
    for context in contexts:
        context.close()


# --- a small training run on made photos ------------------------------------------------------------------------

# Threads that wait for each other stand still for seconds where other work keeps the cores busy. Set before torch is
# imported, and inherited by the commands that tests run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
SMALL = ("size=75", "epochs=2", "batch_size=8", "workers=0")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 made photos of 100×80 pixels, light ones and dark ones, and a labels.csv with a split (32, 8 and 8)."""
    folder = tmp_path_factory.mktemp("small-data")
    generator = np.random.default_rng(1)
    rows = ["path,Male,split"]
    for number in range(48):
        patches = generator.integers(0, 160, (8, 8, 3)) + (95 if number % 2 else 0)
        photo = Image.fromarray(patches.astype(np.uint8)).resize((100, 80), Image.Resampling.BICUBIC)
        photo.save(folder / f"{number:02}.jpg")
        part = "train" if number < 32 else "val" if number < 40 else "test"
        rows.append(f"{number:02}.jpg,{1 if number % 2 else -1},{part}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with torchvision's names, of random weights: what ``--init FILE`` takes."""
    torch = pytest.importorskip("torch", reason="torch is not installed")

    from gendercls.train.network import Network

    torch.manual_seed(7)
    backbone = Network(2, dropout=0.0, input_range=(0.0, 1.0)).backbone
    path = tmp_path_factory.mktemp("small-weights") / "inception.pt"
    torch.save({key: value.half() for key, value in backbone.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def small_options(small_data: Path, small_weights: Path) -> Callable[..., TrainOptions]:
    """``small_options(out, *changes_to_the_recipe, **other_options)``: a run of seconds on `small_data`."""
    from gendercls.train.recipe import load_recipe
    from gendercls.train.run import TrainOptions

    def options(out: Path, *changes: str, **values: Any) -> TrainOptions:
        plain = {"data": small_data, "classes": None, "init": str(small_weights), "split": None, "seed": 1}
        plain |= {"device": "cpu", "resume": False, "recipe_name": "default", **values}
        return TrainOptions(out=out, recipe=load_recipe("default", [*SMALL, *changes]), **plain)

    return options


@pytest.fixture(scope="session")
def small_run(small_options: Callable[..., TrainOptions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on `small_data`. Read it only; it is shared."""
    from gendercls.train.run import train

    out = tmp_path_factory.mktemp("small-run") / "uninterrupted"
    train(small_options(out), lambda event: None, lambda: False)
    return out


@pytest.fixture(scope="session")
def small_export(small_run: Path) -> tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]:
    """The network of `small_run`, its ONNX graph, and the model file of both. Do not change them; they are shared."""
    from gendercls.export.convert import to_onnx, with_spec
    from gendercls.export.source import source_of
    from gendercls.modelfile import ModelFile

    source = source_of(small_run / "best.pt")
    graph = to_onnx(source.calibrated, source.spec.preprocessing.height, source.spec.preprocessing.width)
    file = ModelFile(small_run / "model.onnx", with_spec(graph, source.spec), "", source.spec)
    return source.calibrated, graph, file


@pytest.fixture(scope="session")
def null_model(tmp_path_factory: pytest.TempPathFactory, run_benchmark: RunBenchmark) -> Path:
    """A model that costs nothing: softmax of a photo's upper left pixel, red against green. Read it only."""
    path = tmp_path_factory.mktemp("null") / "null.onnx"
    run_benchmark("null_model.py", path).check_returncode()
    return path


# --- a model of independent attributes ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def attribute_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as one of three independent attributes: ``Female``, ``Not_Female`` and ``Clearly``.

    Its head has a third output, its biases are such that photos have none, one or two of them, and a sigmoid is at its
    end. The rules read ``Female``, ``Not Female`` and ``Clearly``. Read it only; it is shared.
    """
    import onnx
    from onnx import numpy_helper

    from gendercls.classify.session import Session
    from gendercls.labels import ClassRule
    from gendercls.modelfile import METADATA_KEY, ModelFile, read_model_file, shipped_model
    from gendercls.spec import Figure, SelfTest

    shipped = read_model_file(shipped_model())
    model = onnx.load_from_string(shipped.data)
    changes = {
        "network.head.weight": lambda old: old[[0, 1, 0]],
        "network.head.bias": lambda old: old[[0, 1, 0]] - np.float32([2.0, 2.0, 3.0]),
    }
    for tensor in model.graph.initializer:
        if change := changes.get(tensor.name.removeprefix("calibrated.")):
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    model.graph.node[-1].op_type = "Sigmoid"
    del model.graph.node[-1].attribute[:]
    spec = replace(
        shipped.spec,
        name="attributes-1",
        classes=tuple(ClassRule(rule.replace(" ", "_"), rule) for rule in ("Female", "Not Female", "Clearly")),
        figures=(
            Figure("made up, test part", 6, 10, (), (((4, 1), (1, 4)), ((3, 2), (0, 5)), ((9, 0), (0, 1)))),
            Figure("made up, val part", 5, 10, (), (((5, 0), (0, 5)), ((5, 0), (5, 0)), ((9, 0), (1, 0)))),
        ),
        thresholds=(),
        self_test=SelfTest((1,), ((0.5, 0.5, 0.5),), 1.0),
        independent=True,
    )

    def with_it() -> bytes:
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        data: bytes = model.SerializeToString()
        return data

    session = Session(ModelFile(shipped.path, with_it(), "", spec), device="cpu")
    answer = session.run(spec.self_test.images(spec.preprocessing)).astype(float).tolist()
    spec = replace(spec, self_test=SelfTest((1,), tuple(map(tuple, answer)), 2e-3))
    path = tmp_path_factory.mktemp("attributes") / "attributes.onnx"
    path.write_bytes(with_it())
    return path
