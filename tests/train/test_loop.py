"""Epochs: a run that was stopped goes on as if it had not been; a run that goes astray says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gendercls.answers import answers_for
from gendercls.errors import InterruptedRunError, ModelError, PhotoError
from gendercls.train.checkpoint import load_checkpoint
from gendercls.train.dataset import PhotoSet
from gendercls.train.events import EpochMetrics, Step
from gendercls.train.loop import Predicted, Training, begin, predict, train_epochs
from gendercls.train.network import Network
from gendercls.train.recipe import load_recipe
from gendercls.train.run import TrainOptions, train

Options = Callable[..., TrainOptions]


def stop_after(steps: int) -> Callable[[], bool]:
    """Says stop once that many steps are done."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= steps


def metrics_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in ("seconds", "photos_per_second")}


def assert_same_run(one: Path, other: Path) -> None:
    """Same weights to the last bit, same calibration, same figures, same metrics but for the time they took."""
    left, right = load_checkpoint(one / "best.pt"), load_checkpoint(other / "best.pt")
    assert all(torch.equal(value, right["weights"][key]) for key, value in left["weights"].items())
    for key in ("calibration", "figures", "classes"):
        assert left[key] == right[key]
    assert [*map(without_times, metrics_of(one))] == [*map(without_times, metrics_of(other))]


@pytest.mark.parametrize(("steps", "workers"), [(3, 1), (6, 0)])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    small_run: Path, small_options: Options, tmp_path: Path, steps: int, workers: int
) -> None:
    """Stopped within the first epoch or the second and resumed, a run has the uninterrupted run's weights."""
    out = tmp_path / "run"
    with pytest.raises(InterruptedRunError) as caught:
        train(small_options(out), lambda event: None, stop_after(steps))
    assert str(caught.value) == (
        f"interrupted in epoch {1 + (steps - 1) // 4}, step {1 + (steps - 1) % 4} of 4; the state is saved\n"
        f"  where: {out / 'last.pt'}\n"
        "  do:    repeat the command with --resume to continue"
    )
    said: list[object] = []
    train(small_options(out, f"workers={workers}", resume=True), said.append, lambda: False)
    assert f"continuing from last.pt in epoch {1 + steps // 4}, step {1 + steps % 4}" in said
    assert sum(isinstance(event, Step) for event in said) == 8 - steps
    assert_same_run(small_run, out)


def test_a_finished_run_can_be_resumed(small_run: Path, small_options: Options, tmp_path: Path) -> None:
    """Resuming a finished run trains nothing more and gives the same result."""
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    said: list[object] = []
    result = train(small_options(tmp_path, resume=True), said.append, lambda: False)
    assert not [event for event in said if isinstance(event, Step)]
    assert result.best.epoch in (1, 2)
    assert_same_run(small_run, tmp_path)


def test_the_best_epoch_is_kept(small_run: Path) -> None:
    """best.pt has the metrics of the epoch with the least validation loss."""
    metrics = metrics_of(small_run)
    assert [line["epoch"] for line in metrics] == [1, 2]
    assert load_checkpoint(small_run / "best.pt")["metrics"] == min(metrics, key=lambda line: line["val_loss"])


def test_an_epoch_is_none_the_worse_for_being_too_sure(
    parts: PhotoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept weights are calibrated in the end, so the validation loss is that after calibration."""
    from gendercls.train import loop

    recipe = load_recipe("default", ["size=75", "epochs=2", "batch_size=8", "workers=0"])
    network, told = Network(2, dropout=0.0, input_range=(0.0, 1.0)), []
    factors = iter((1.0, 9.0))

    def surer_each_time(_: object, photos: PhotoSet, *__: object) -> Predicted:
        signs = 2.0 * photos.targets - 1
        signs[0] *= -1  # one is wrong
        return Predicted(np.asarray(next(factors) * signs, np.float32), np.ones(len(photos), np.float32))

    monkeypatch.setattr(loop, "predict", surer_each_time)
    training = Training(
        recipe=recipe,
        answers=answers_for(False, ("a", "b")),
        train=parts,
        val=parts,
        seed=1,
        run=tmp_path,
        report=told.append,
        stop=lambda: False,
        save_best=lambda average, metrics: None,
    )
    train_epochs(begin(network, recipe, torch.device("cpu")), training)
    first, second = (event.val_loss for event in told if isinstance(event, EpochMetrics))
    assert second == pytest.approx(first, abs=1e-6)
    assert first == pytest.approx(-(7 * np.log(7 / 8) + np.log(1 / 8)) / 8, abs=1e-6)  # what 7 of 8 right can give


@pytest.fixture
def parts(small_data: Path) -> PhotoSet:
    paths = sorted(small_data.glob("*.jpg"))[:8]
    return PhotoSet(paths, np.eye(2, dtype=np.int8)[np.arange(8) % 2])


def test_a_loss_that_is_no_number_ends_the_run(parts: PhotoSet, tmp_path: Path) -> None:
    """A run whose validation loss is no number any more says so, and keeps no best weights."""
    recipe = load_recipe("default", ["size=75", "epochs=1", "batch_size=8", "workers=0"])
    network = Network(2, dropout=0.0, input_range=(0.0, 1.0))
    network.head.bias.data.fill_(float("nan"))
    kept: list[EpochMetrics] = []
    with pytest.raises(ModelError) as caught:
        train_epochs(
            begin(network, recipe, torch.device("cpu")),
            Training(
                recipe=recipe,
                answers=answers_for(False, ["female", "male"]),
                train=parts,
                val=parts,
                seed=1,
                run=tmp_path,
                report=lambda event: None,
                stop=lambda: False,
                save_best=lambda average, metrics: kept.append(metrics),
            ),
        )
    assert str(caught.value) == (
        "training went astray: in epoch 1 the loss is no number\n"
        f"  where: {tmp_path}\n"
        "  do:    begin anew with a smaller learning_rate"
    )
    assert not kept


@pytest.mark.parametrize("damage", ["cut off", "gone", "a byte changed"])
def test_a_damaged_state_is_refused_and_the_one_before_it_used(
    small_run: Path, small_options: Options, tmp_path: Path, damage: str
) -> None:
    """Whatever became of last.pt, the run goes on from the state before, to the uninterrupted run's weights."""
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    last = tmp_path / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 255
    if damage == "gone":
        last.unlink()
    else:
        last.write_bytes(content if damage == "a byte changed" else content[:5000])
    said: list[object] = []
    train(small_options(tmp_path, resume=True), said.append, lambda: False)
    assert "continuing from last.prev.pt in epoch 2, step 1" in said
    refused = f"not used: {last}: the file is damaged, or holds something else than tensors and plain values; "
    assert (f"{refused}nothing in it was run" in said) == (damage != "gone")
    assert_same_run(small_run, tmp_path)


def test_states_that_are_all_damaged_end_the_run(small_run: Path, small_options: Options, tmp_path: Path) -> None:
    """With no state that can be read a run does not begin anew in silence."""
    shutil.copy(small_run / "recipe.toml", tmp_path)
    for name in ("last.pt", "last.prev.pt"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ModelError) as caught:
        train(small_options(tmp_path, resume=True), lambda event: None, lambda: False)
    assert caught.value.where == str(tmp_path / "last.pt")


def test_a_run_ends_when_no_epoch_is_better(small_options: Options, tmp_path: Path) -> None:
    """With patience a run ends early, says so, and keeps the best epoch; resumed, it does not go on."""
    changes = ("epochs=9", "patience=1", "learning_rate=0.5", "warmup_fraction=0")
    said: list[object] = []
    result = train(small_options(tmp_path / "run", *changes), said.append, lambda: False)
    epochs = [event.epoch for event in said if isinstance(event, EpochMetrics)]
    assert epochs == list(range(1, result.best.epoch + 2))
    assert len(epochs) < 9
    assert f"ended early: no epoch was better than epoch {result.best.epoch}" in said
    again: list[object] = []
    train(small_options(tmp_path / "run", *changes, resume=True), again.append, lambda: False)
    assert not [event for event in again if isinstance(event, Step)]


def test_fp16_goes_on_bit_for_bit(small_options: Options, tmp_path: Path) -> None:
    """The scaler that fp16 needs is part of the state: a stopped run has the uninterrupted run's weights."""
    changes = ("autocast=fp16", "epochs=1", "train_photos=16")
    train(small_options(tmp_path / "whole", *changes), lambda event: None, lambda: False)
    with pytest.raises(InterruptedRunError):
        train(small_options(tmp_path / "run", *changes), lambda event: None, stop_after(1))
    train(small_options(tmp_path / "run", *changes, resume=True), lambda event: None, lambda: False)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["scaler"]["scale"] > 1


def test_a_photo_that_changes_ends_the_run_with_all_saved(
    small_run: Path, small_options: Options, small_data: Path, tmp_path: Path
) -> None:
    """A photo that is gone in the midst of training is named; put back, the run goes on as if nothing had been."""
    data = Path(shutil.copytree(small_data, tmp_path / "data"))

    def take_away(event: object) -> None:
        if isinstance(event, EpochMetrics) and event.epoch == 1:
            (data / "09.jpg").rename(tmp_path / "09.jpg")

    with pytest.raises(PhotoError) as caught:
        train(small_options(tmp_path / "run", data=data), take_away, lambda: False)
    assert str(caught.value) == (
        "a photo can no longer be read: No such file or directory\n"
        f"  where: {data / '09.jpg'}\n"
        "  do:    put it back and continue with --resume, or begin anew without it"
    )
    (tmp_path / "09.jpg").rename(data / "09.jpg")
    train(small_options(tmp_path / "run", resume=True, data=data), lambda event: None, lambda: False)
    assert_same_run(small_run, tmp_path / "run")


@pytest.fixture(scope="module")
def last(small_run: Path) -> dict[str, Any]:
    """The state of `small_run`, 350 MB. Do not change it; it is shared."""
    return load_checkpoint(small_run / "last.pt")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("average"),
        lambda content: content["network"].update({"head.weight": torch.zeros(3, 2048)}),
        lambda content: content.update(optimizer=None),
        lambda content: content.update(progress=[1, 2]),
        lambda content: content.update(history=[{"epoch": 1}]),
    ],
)
def test_a_state_of_another_run_is_refused(
    last: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, Any]], object]
) -> None:
    """A last.pt whose state does not fit is refused, with what to do."""
    content = {**last, "network": dict(last["network"])}
    spoil(content)
    monkeypatch.setattr("gendercls.train.loop.load_checkpoint", lambda path: content)
    state = begin(Network(2, dropout=0.3, input_range=(0.0, 1.0)), load_recipe("default"), torch.device("cpu"))
    with pytest.raises(ModelError) as caught:
        state.restore(tmp_path / "last.pt")
    assert str(caught.value) == (
        "the saved state is not one of this run\n"
        f"  where: {tmp_path / 'last.pt'}\n"
        "  do:    continue with the options the run was begun with, or choose another --out"
    )


def test_logits_do_not_depend_on_the_batch(parts: PhotoSet) -> None:
    """Each photo's logits come in its place, in full precision, whoever shares its batch."""
    recipe = load_recipe("default", ["size=75", "workers=0"])
    network = Network(2, dropout=0.5, input_range=(0.0, 1.0))
    together = predict(network, parts, recipe).logits
    assert together.shape == (8, 2)
    alone = [
        predict(network, PhotoSet([path], parts.targets[:1]), recipe).logits[0]
        for path in (parts.paths[2], parts.paths[7])
    ]
    np.testing.assert_allclose(alone, together[[2, 7]], atol=1e-5)
