"""Epochs: a run that was stopped goes on as if it had not been; a run that goes astray says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gendercls.errors import InterruptedRunError, ModelError
from gendercls.train.checkpoint import load_checkpoint, save_tensors
from gendercls.train.dataset import PhotoSet
from gendercls.train.loop import EpochMetrics, Step, begin, cpu_has_bf16, predict_logits, train_epochs
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
    assert f"continuing in epoch {1 + steps // 4}, step {1 + steps % 4}" in said
    assert sum(isinstance(event, Step) for event in said) == 8 - steps
    assert_same_run(small_run, out)


def test_a_finished_run_can_be_resumed(small_run: Path, small_options: Options, tmp_path: Path) -> None:
    """Resuming a finished run trains nothing more and gives the same result."""
    for file in small_run.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
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


@pytest.fixture
def parts(small_data: Path) -> PhotoSet:
    paths = sorted(small_data.glob("*.jpg"))[:8]
    return PhotoSet(paths, np.arange(8) % 2)


def test_a_loss_that_is_no_number_ends_the_run(parts: PhotoSet, tmp_path: Path) -> None:
    """A run whose validation loss is no number any more says so, and keeps no best weights."""
    recipe = load_recipe("default", ["size=75", "epochs=1", "batch_size=8", "workers=0"])
    network = Network(2, dropout=0.0, input_range=(0.0, 1.0))
    network.head.bias.data.fill_(float("nan"))
    kept: list[EpochMetrics] = []
    with pytest.raises(ModelError) as caught:
        train_epochs(
            begin(network, recipe, torch.device("cpu")),
            *(parts, parts, recipe),
            seed=1,
            run=tmp_path,
            save_best=lambda average, metrics: kept.append(metrics),
            report=lambda event: None,
            stop=lambda: False,
        )
    assert str(caught.value) == (
        "training went astray: in epoch 1 the validation loss is no number\n"
        f"  where: {tmp_path}\n"
        "  do:    begin anew with a smaller learning_rate"
    )
    assert not kept


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("average"),
        lambda content: content.update(network={}),
        lambda content: content["network"].update({"head.weight": torch.zeros(3, 2048)}),
        lambda content: content.update(progress=[1, 2]),
        lambda content: content.update(history=[{"epoch": 1}]),
    ],
)
def test_a_state_of_another_run_is_refused(
    small_run: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], object]
) -> None:
    """A last.pt whose state does not fit is refused, with what to do."""
    content = load_checkpoint(small_run / "last.pt")
    spoil(content)
    save_tensors(tmp_path / "last.pt", content)
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
    together = predict_logits(network, parts, recipe)
    assert together.shape == (8, 2)
    alone = [
        predict_logits(network, PhotoSet([path], parts.targets[:1]), recipe)[0]
        for path in (parts.paths[2], parts.paths[7])
    ]
    np.testing.assert_allclose(alone, together[[2, 7]], atol=1e-5)


def test_bf16_is_what_the_processor_says() -> None:
    """bf16 is used only where the processor's own flags name it."""
    flags = Path("/proc/cpuinfo").read_text().split()
    assert cpu_has_bf16() == bool({"avx512_bf16", "amx_tile"} & set(flags))
