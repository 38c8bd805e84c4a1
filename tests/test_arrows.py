"""Who may call whom, and what a command may load: the lines of the architecture, held by reading the code."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import gendercls

PACKAGE = Path(gendercls.__file__).parent
VERBS = {"classify", "train", "export", "report", "doctor"}
SURFACE = {"cli", "console", "__main__", "__init__"}
# Verbs do not call each other, with two exceptions: export's gate and doctor run a session; and export, on the torch
# side too, reads the checkpoints that train writes, and what it made of them.
EXCEPTIONS = {
    "export.gate": {"classify.session", "train.network"},
    "export.run": {"classify.session"},
    "export.source": {"train.checkpoint", "train.network", "train.unfold"},
    "export.convert": {"train.network"},
    "doctor": {"classify.provider", "classify.session"},
    # To tell a step from an epoch among what training reports, and scores of classes from those of attributes.
    "console.trained": {"train.events"},
    "console.classified": {"scores"},
}
TORCH = {"torch", "torchvision", "onnx", "onnxscript"}
HEAVY = {"torch", "onnxruntime", "numpy", "PIL", "rich"}


def modules() -> dict[str, ast.Module]:
    """Every module's name below gendercls, and its code."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imports(code: ast.Module) -> set[str]:
    """All that a module imports, also within functions; not what stands under TYPE_CHECKING."""
    found: set[str] = set()
    for node in _runtime_nodes(code):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _runtime_nodes(child)


MODULES = modules()


def ours(code: ast.Module) -> set[str]:
    """The modules of gendercls that one imports, without the package's name."""
    named = {name.removeprefix("gendercls.") for name in imports(code) if name.startswith("gendercls.")}
    return named & MODULES.keys()


def room(module: str) -> str:
    return module.partition(".")[0]


def forbidden(module: str, targets: set[str]) -> set[str]:
    """Those of the imported modules that this one may not call."""
    own = room(module)
    nouns = {target for target in targets if room(target) not in VERBS | SURFACE}
    if own == "cli":  # its rooms share what all commands share; the main group alone knows them all
        return set() if module == own else {target for target in targets if room(target) == own} - {"cli.command"}
    if own == "__main__":
        return targets - {"cli"}
    allowed = {"errors"} if own in ("errors", "console", "__init__") else nouns
    if own in VERBS | {"console"}:
        allowed |= {target for target in targets if room(target) == own}
    return targets - allowed - EXCEPTIONS.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    """cli → a verb → the nouns → nothing but nouns; errors is for all, console for cli alone."""
    assert forbidden(module, ours(MODULES[module])) == set()


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("images", "from gendercls.console import note"),
        ("spec", "from gendercls.classify.session import Session"),
        ("labels.table", "def f():\n    import gendercls.train.run"),
        ("classify.run", "from gendercls import console"),
        ("classify.run", "from gendercls.train.recipe import Recipe"),
        ("train.loop", "from gendercls.export.gate import Parity"),
        ("doctor", "from gendercls.classify.classifier import Classifier"),
        ("export.run", "from gendercls.classify.run import classify"),
        ("errors", "from gendercls.images import decode"),
        ("console", "from gendercls.classify.run import classify"),
        ("console.about", "from gendercls.classify.speed import measure"),
        ("stats", "from gendercls.console.about import show_speed"),
        ("cli.train", "from gendercls.cli.report import report"),
        ("cli.train", "from gendercls.cli import main"),
    ],
)
def test_an_arrow_upwards_is_found(module: str, code: str) -> None:
    """The check sees a forbidden import at the top of a module and within a function."""
    assert forbidden(module, ours(ast.parse(code)))


def test_nouns_form_no_circle() -> None:
    """Every noun can be imported first: what it needs needs not it."""
    left = {
        name: {room(other) for other in ours(code)}
        for name, code in MODULES.items()
        if room(name) not in VERBS | SURFACE
    }
    needs: dict[str, set[str]] = {}
    for name, others in left.items():
        needs.setdefault(room(name), set()).update(others - {room(name)})
    while ready := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in ready}
    assert needs == {}


@pytest.mark.parametrize("module", MODULES)
def test_the_two_sides_never_meet(module: str) -> None:
    """torch is imported by train and export alone, onnxruntime by classify's session and by what quantises."""
    packages = {name.partition(".")[0] for name in imports(MODULES[module])}
    if room(module) not in ("train", "export"):
        assert not packages & TORCH
    if module not in ("classify.provider", "classify.session", "export.quantise"):
        assert "onnxruntime" not in packages


def test_every_exception_is_used() -> None:
    """An exception to the arrows that nobody needs any more is taken off the list."""
    for module, targets in EXCEPTIONS.items():
        assert targets <= ours(MODULES[module]), module


# --- what is loaded ---------------------------------------------------------------------------------------------


def loaded_by(*command: str) -> set[str]:
    """The packages that a fresh interpreter has loaded when the command ends."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize(
    "command",
    [("-m", "gendercls", "--help"), ("-m", "gendercls", "classify", "--help"), ("-c", "import gendercls.cli")],
)
def test_the_start_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    """Help, and the import of all commands, load no torch, onnxruntime, numpy, PIL or rich."""
    packages = loaded_by(*command)
    assert {"gendercls", "click"} <= packages
    assert not packages & HEAVY


@pytest.mark.parametrize("name", ["classify", "info", "doctor"])
def test_commands_for_users_load_no_torch(name: str, small_data: Path, tmp_path: Path) -> None:
    """classify, info and doctor run where torch is not installed."""
    more = (
        [str(small_data / "00.jpg"), "--out", str(tmp_path / "p.csv"), "--device", "cpu"] if name == "classify" else []
    )
    packages = loaded_by("-m", "gendercls", name, *more)
    assert "numpy" in packages
    assert not packages & TORCH


BARE = "import click\n@click.group()\ndef main(): pass\n@main.command()\ndef run(): pass\nmain()"


def ratio_to_bare_click(runs: int) -> float:
    """How many times as long ``gendercls --help`` takes as that of a click program without content."""
    commands = {"ours": ["-m", "gendercls", "--help"], "bare": ["-c", BARE, "--help"]}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            taken[name].append(time.perf_counter() - began)
    return statistics.median(taken["ours"]) / statistics.median(taken["bare"])


def test_help_is_as_quick_as_click_is() -> None:
    """``gendercls --help`` takes at most 1.5 times as long as a bare click program in the same run."""
    ratios = []
    for _ in range(3):  # other work on the machine may spoil a measurement
        ratios.append(ratio_to_bare_click(9))
        if ratios[-1] <= 1.5:
            return
    pytest.fail(f"ratios of three measurements: {ratios}")


def test_public_names_load_on_first_use() -> None:
    """``import gendercls`` loads nothing heavy, and each public name is there once it is asked for."""
    assert not loaded_by("-c", "import gendercls") & HEAVY
    assert all(getattr(gendercls, name) is not None for name in gendercls.__all__)
    with pytest.raises(AttributeError, match=re.escape("module 'gendercls' has no attribute 'Clasifier'")):
        _ = gendercls.Clasifier
