"""Checkpoints: whole or not at all, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_bomb_is_refused_and_does_not_run(tmp_path: Path, write: Callable[[object, Path], object]) -> None:
    """A file whose unpickling would call a function is refused, and the function is not called."""
    path, made = tmp_path / "bomb.pt", tmp_path / "made"
    write({"format": FORMAT, "weights": Bomb(made)}, path)
    assert refusal(load_checkpoint, path) == DAMAGED
    assert not made.exists()
    pickle.loads(pickle.dumps(Bomb(made)))  # noqa: S301 - the bomb is a real one
    assert made.is_dir()


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
