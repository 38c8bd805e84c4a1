"""Checkpoints: whole or not at all, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gendercls.cli import main
from gendercls.errors import GenderclsError, ModelError, OutputError
from gendercls.train.checkpoint import (
    FORMAT,
    load_checkpoint,
    load_tensors,
    save_state,
    save_tensors,
    save_text,
    sha256_of,
)

GOOD = {"format": FORMAT, "weights": {"a": torch.arange(6.0)}, "progress": [1, 2.5], "name": "x"}
DAMAGED = (
    "the file is damaged, or holds something else than tensors and plain values; nothing in it was run\n"
    "  where: FILE\n"
    "  do:    give a file that torch.save wrote from a state dict, or a checkpoint made by gendercls train"
)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(GenderclsError) as caught:
        read(path)
    return str(caught.value).replace(str(path), "FILE")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_tensors(path, GOOD)
    return path


def test_what_was_saved_is_read_again(saved: Path) -> None:
    """Tensors and plain values come back, and no temporary file stays."""
    content = load_checkpoint(saved)
    assert torch.equal(content.pop("weights")["a"], torch.arange(6.0))
    assert content == {key: value for key, value in GOOD.items() if key != "weights"}
    assert os.listdir(saved.parent) == ["last.pt"]


@pytest.mark.parametrize("without", ["nothing", "gendercls.train.checkpoint._check_names"])
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_bomb_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[object, Path], object], without: str
) -> None:
    """A file whose unpickling would call a function is refused, by torch alone too, and the function is not called."""
    if without != "nothing":
        monkeypatch.setattr(without, lambda pickled: None)
    path, made = tmp_path / "bomb.pt", tmp_path / "made"
    write({"format": FORMAT, "weights": Bomb(made)}, path)
    assert refusal(load_checkpoint, path) == DAMAGED
    assert not made.exists()
    pickle.loads(pickle.dumps(Bomb(made)))  # noqa: S301 - the bomb is a real one
    assert made.is_dir()


@pytest.mark.parametrize("command", ["export", "train --resume", "train --init", "audit --init"])
def test_no_command_runs_what_is_in_a_file(
    small_run: Path, small_data: Path, small_weights: Path, tmp_path: Path, command: str
) -> None:
    """Each of them that reads a checkpoint refuses a pickle bomb, and names it."""
    run, made = tmp_path / "run", tmp_path / "made"
    shutil.copytree(small_run, run, ignore=shutil.ignore_patterns("*.pt"))
    files = {"export": ["best.pt"], "train --resume": ["last.pt", "last.prev.pt"]}.get(command, ["weights.pt"])
    for name in files:
        torch.save({"format": FORMAT, "weights": Bomb(made), "network": Bomb(made)}, run / name)
    path = run / files[0]
    changes = [f"--set={change}" for change in ("size=75", "epochs=2", "batch_size=8", "workers=0")]
    typed = {
        "export": ["export", run],
        "train --resume": ["train", small_data, "--out", run, "--resume", "--init", small_weights, *changes],
        "train --init": ["train", small_data, "--out", tmp_path / "other", "--init", path, *changes],
        "audit --init": ["audit", small_data, "--init", path],
    }
    done = CliRunner().invoke(main, [*map(str, typed[command]), *(["--device=cpu"] if command != "export" else [])])
    assert done.exit_code == 1
    assert f"Error: {DAMAGED.replace('FILE', str(path))}\n" in done.stderr
    assert not made.exists()


def packed(path: Path) -> None:
    """100 MB of zeros in half a megabyte, which torch would unpack."""
    torch.save({"format": FORMAT, "weights": torch.zeros(25_000_000)}, path)
    whole = path.rename(path.with_name("whole.pt"))
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as other:
        for part in archive.infolist():
            other.writestr(part.filename, archive.read(part))


def packed_behind_another_list(path: Path) -> None:
    """Python sees a list of empty parts, just before the file's end, and torch the one that the end names."""
    packed(path)
    with zipfile.ZipFile(path) as archive:
        names, first = archive.namelist(), archive.start_dir
    with path.open("r+b") as file:
        file.seek(-22, os.SEEK_END)
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, b"")
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, len(data) - 6)
    struct.pack_into("<I", data, len(data) - 6, first)
    further = at - first
    for name in names:
        (offset,) = struct.unpack_from("<I", data, at + 42)
        struct.pack_into("<I", data, at + 42, offset - further)
        at += 46 + len(name)
    path.write_bytes(data)


class Zeros:
    """Calls what ``weights_only`` lets be called."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (100_000_000,)


def nested(times: int) -> list[object]:
    """A list of ten lists, which are the same one, and so on."""
    inner: list[object] = [0] * 10
    for _ in range(times):
        inner = [inner] * 10
    return inner


def zeros(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 << 30)


def saving(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save({"format": FORMAT, "weights": content}, path)


def memory(name: str) -> int:
    """Of this process, in bytes: VmRSS is what it has, VmHWM the most that it had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


BOMBS: dict[str, Callable[[Path], None]] = {
    "packed": packed,
    "packed, behind another list": packed_behind_another_list,
    "bytes made by a call": saving(Zeros()),
    "one number as a tensor": saving(torch.zeros(1).expand(20_000, 20_000)),
    "a text again and again": saving(["x" * 1000] * 100),
    "lists in lists": saving(nested(5)),
    "zeros": zeros,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_would_be_far_more_in_memory_is_refused(tmp_path: Path, name: str) -> None:
    """Before torch reads it, or before anybody uses what torch read."""
    path = tmp_path / "bomb.pt"
    BOMBS[name](path)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the most that it had
    before = memory("VmRSS")
    assert refusal(load_checkpoint, path) == DAMAGED
    assert memory("VmHWM") - before < 50_000_000


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(saved: Path, kept: float) -> None:
    """A file cut off anywhere is refused as damaged."""
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * kept)])
    assert refusal(load_tensors, saved) == DAMAGED


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_damage_anywhere_is_our_error_or_none(tmp_path: Path, is_zip: bool) -> None:
    """Whatever byte is changed, in torch's new format or its old one, the file is read or refused; nothing else."""
    path = tmp_path / "weights.pt"
    torch.save(GOOD, path, _use_new_zipfile_serialization=is_zip)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), max(1, len(data) // 300)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x3F]) + data[place + 1 :])
        try:
            load_tensors(path)
        except ModelError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "the file holds no state dict\n  where: FILE\n  do:    give a dictionary of named tensors"),
        ({}, "the file holds no state dict\n  where: FILE\n  do:    give a dictionary of named tensors"),
        (
            {"conv.weight": torch.zeros(2)},
            "the file is no checkpoint that this version of gendercls can read\n"
            "  where: FILE has format None; this version reads 1\n"
            "  do:    give the best.pt of a run made by gendercls train",
        ),
        (
            {"format": torch.ones(2)},
            "the file is no checkpoint that this version of gendercls can read\n"
            "  where: FILE has format None; this version reads 1\n"
            "  do:    give the best.pt of a run made by gendercls train",
        ),
        (
            {"format": 2},
            "the file is no checkpoint that this version of gendercls can read\n"
            "  where: FILE has format 2; this version reads 1\n"
            "  do:    give the best.pt of a run made by gendercls train",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: object, message: str) -> None:
    """A sound file that is no checkpoint of this format is refused with what it is."""
    path = tmp_path / "other.pt"
    torch.save(content, path)
    assert refusal(load_checkpoint, path) == message


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """A missing file and a folder are told apart from damage."""
    assert refusal(load_tensors, tmp_path / "no.pt") == "no such weights file\n  where: FILE\n  do:    check the path"
    message = "the weights file cannot be read: Is a directory\n  where: FILE\n  do:    check the path"
    assert refusal(load_tensors, tmp_path) == message


def test_a_write_that_fails_leaves_the_old_file(saved: Path) -> None:
    """When the disk is full half way, the old checkpoint stands, no other file stays, and the message says so."""
    before, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            save_tensors(saved, {"format": FORMAT, "weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        "a file of the run could not be written: the disk took only a part of it\n"
        f"  where: {saved}\n"
        "  do:    free some disk; what was there before stands, and --resume continues from there"
    )
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["last.pt"]


def test_any_changed_byte_of_a_tensor_is_refused(saved: Path) -> None:
    """A state whose numbers were changed on the disk is refused, though torch itself would read it."""
    data = bytearray(saved.read_bytes())
    at = bytes(data).index(torch.arange(6.0).numpy().tobytes())
    data[at + 9] ^= 1
    saved.write_bytes(data)
    assert torch.load(saved, weights_only=True)["weights"]["a"].tolist() != GOOD["weights"]["a"].tolist()  # type: ignore[index]
    assert refusal(load_tensors, saved) == DAMAGED


def test_the_state_before_the_last_is_kept(saved: Path) -> None:
    """A new state leaves the one before it beside itself, and no third."""
    first = saved.read_bytes()
    save_state(saved, {"format": FORMAT, "step": 2})
    assert saved.with_name("last.prev.pt").read_bytes() == first
    save_state(saved, {"format": FORMAT, "step": 3})
    assert load_checkpoint(saved.with_name("last.prev.pt"))["step"] == 2
    assert load_checkpoint(saved)["step"] == 3
    assert sorted(os.listdir(saved.parent)) == ["last.prev.pt", "last.pt"]


def test_a_text_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A text that cannot be written leaves the old one; names that are not UTF-8 keep their bytes."""
    path = tmp_path / "split.csv"
    save_text(path, "a\udcff\n")
    assert path.read_bytes() == b"a\xff\n"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match="could not be written: File too large"):
            save_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"a\xff\n"
    assert os.listdir(tmp_path) == ["split.csv"]


def test_a_new_checkpoint_takes_the_olds_place_in_one_step(saved: Path) -> None:
    """Whoever has the old file open still reads all of it: it is replaced, never written over."""
    before = saved.read_bytes()
    with saved.open("rb") as held:
        save_tensors(saved, {"format": FORMAT, "weights": torch.zeros(9)})
        assert held.read() == before
    assert torch.equal(load_checkpoint(saved)["weights"], torch.zeros(9))


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    """`sha256_of` is what ``sha256sum`` prints."""
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
