"""The gate: real photos through both sides, and no file where they do not agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gendercls.answers import answers_for
from gendercls.classify.session import Session
from gendercls.errors import GateError, PhotoError
from gendercls.export.convert import with_spec
from gendercls.export.gate import TOLERANCE, Parity, run_both
from gendercls.images import to_array
from gendercls.modelfile import ModelFile
from gendercls.sources import Listing, Photo
from gendercls.spec import GateFigures
from gendercls.train.network import CalibratedNetwork

Small = tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]
FAULT = "  do:    this is a fault of the exporter or of onnxruntime: try other versions of torch and onnxruntime"


@dataclass(frozen=True)
class Named:
    """A photo without content."""

    key: str

    @property
    def path(self) -> str:
        return self.key

    def read(self) -> bytes:
        raise PhotoError("cannot be read: gone")


def parity(by_torch: list[list[float]], by_onnxruntime: list[list[float]], *, independent: bool = False) -> Parity:
    photos: list[Photo] = [Named(f"{number}.jpg") for number in range(len(by_torch))]
    return Parity(answers_for(independent, ["a", "b"]), photos, np.array(by_torch), np.array(by_onnxruntime), 0)


def refusal(of: Callable[[], object]) -> str:
    with pytest.raises(GateError) as caught:
        of()
    return str(caught.value)


@pytest.fixture(scope="module")
def listing(small_data: Path) -> Listing:
    return Listing([str(path) for path in sorted(small_data.glob("*.jpg"))[:10]])


def quiet(_: str) -> None:
    pass


def perturbed(small: Small, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelFile:
    """The model file with one of its tensors changed."""
    _, graph, model = small
    other = onnx.ModelProto()
    other.CopyFrom(graph)
    tensor = next(tensor for tensor in other.graph.initializer if tensor.name.endswith(name))
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return ModelFile(model.path, with_spec(other, model.spec), "", model.spec)


def test_a_faithful_model_passes(small_export: Small, listing: Listing) -> None:
    """The model as it was converted passes with a difference far below the tolerance, over all photos."""
    both = run_both(small_export[0], Session(small_export[2], device="cpu"), listing, quiet)
    figures = both.check()
    assert (figures.photos, figures.decisions_changed, figures.tolerance, both.skipped) == (10, 0, TOLERANCE, 0)
    assert figures.largest_difference < TOLERANCE / 10
    assert figures.worst_photo in {photo.key for photo in listing}


def test_both_sides_see_the_pixels_of_classify(small_export: Small, listing: Listing) -> None:
    """Each photo's probabilities are those of its own `images.to_array`, in the order of the listing."""
    calibrated, _, model = small_export
    session = Session(model, device="cpu")
    both = run_both(calibrated, session, listing, quiet)
    pixels = np.stack([to_array(photo.read(), model.spec.preprocessing) for photo in listing])
    alone = np.concatenate([session.run(photo[None]) for photo in pixels])
    np.testing.assert_array_equal(both.by_onnxruntime, alone.astype(np.float64))


def test_changed_weights_are_refused(small_export: Small, listing: Listing) -> None:
    """A model whose head is off, by more than the self-test would notice or less, is refused with the worst photo."""
    shift = np.float32([0.004 * small_export[0].temperature, 0])  # about 1e-3 of a probability near one half
    off = perturbed(small_export, "head.bias", lambda bias: bias + shift)
    both = run_both(small_export[0], Session(off, device="cpu"), listing, quiet)
    differences = np.abs(both.by_torch - both.by_onnxruntime).max(axis=1)
    worst = int(differences.argmax())
    assert 2e-4 < differences[worst] < 2e-3
    assert refusal(both.check) == (
        f"onnxruntime does not follow PyTorch: a probability differs by {differences[worst]:.2g}, 0.0001 is allowed; "
        f"no file was written\n  where: {both.photos[worst].key}\n{FAULT}"
    )


@pytest.mark.parametrize("by", [2e-4, 0.3, float("nan")])
def test_a_difference_above_the_tolerance_is_refused(by: float) -> None:
    """2e-4 is too much, and so is an answer that is no number; the worst photo is named."""
    both = parity([[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.2 + by, 0.8 - by]])
    assert refusal(both.check) == (
        f"onnxruntime does not follow PyTorch: a probability differs by {by:.2g}, 0.0001 is allowed; "
        f"no file was written\n  where: 1.jpg\n{FAULT}"
    )


def test_a_difference_within_the_tolerance_passes() -> None:
    """9e-5 passes, and is written down."""
    figures = parity([[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.20009, 0.79991]]).check()
    assert figures == GateFigures(2, pytest.approx(9e-5), 1e-4, 0, "1.jpg")


def test_a_decision_that_flips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another decision on a photo that is no tie is refused, also where the probabilities are near enough."""
    monkeypatch.setattr("gendercls.export.gate.TOLERANCE", 1e-2)
    both = parity([[0.9, 0.1], [0.506, 0.494]], [[0.9, 0.1], [0.4965, 0.5035]])
    assert refusal(both.check) == (
        f"onnxruntime decides 1 photos otherwise than PyTorch; no file was written\n  where: 1.jpg\n{FAULT}"
    )


def test_a_tie_may_flip_and_is_counted() -> None:
    """Two probabilities within 1e-4 of each other may change places; how many did is written down."""
    figures = parity([[0.50002, 0.49998], [0.9, 0.1]], [[0.49998, 0.50002], [0.9, 0.1]]).check()
    assert figures.decisions_changed == 1


def test_another_set_of_attributes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of independent attributes the decision is the set above one half: one more or less is another decision."""
    monkeypatch.setattr("gendercls.export.gate.TOLERANCE", 1e-2)
    # As the CSV would show it, 0.4999996 is one half.
    rows, other = [[0.9, 0.4899999], [0.9, 0.6], [0.2, 0.3]], [[0.9, 0.4999996], [0.9, 0.6], [0.2, 0.3]]
    assert refusal(parity(rows, other, independent=True).check) == (
        f"onnxruntime decides 1 photos otherwise than PyTorch; no file was written\n  where: 0.jpg\n{FAULT}"
    )
    assert parity(rows, other).check().decisions_changed == 0  # of classes that exclude each other it is the same one


def test_an_attribute_may_flip_at_its_own_tie() -> None:
    """One within 1e-4 of one half may turn, whatever the others are; the photo counts once."""
    rows = parity(
        [[0.49998, 0.50002], [0.9, 0.49999], [0.5, 0.5]], [[0.50002, 0.49998], [0.9, 0.5], [0.5, 0.5]], independent=True
    )
    assert rows.check().decisions_changed == 2
    assert refusal(parity([[0.3, 0.7]], [[0.3, 0.69]], independent=True).check).startswith(
        "onnxruntime does not follow PyTorch: a probability differs by 0.01, "
    )


def test_photos_that_cannot_be_read_are_skipped_and_counted(small_export: Small, listing: Listing) -> None:
    """Unreadable files do not shift the pairs of photo and answer."""
    session = Session(small_export[2], device="cpu")
    photos: list[Photo] = [Named("a"), *listing, Named("b")]
    both = run_both(small_export[0], session, photos, quiet)
    assert both.skipped == 2
    assert [photo.key for photo in both.photos] == [photo.key for photo in listing]
    np.testing.assert_array_equal(both.by_torch, run_both(small_export[0], session, listing, quiet).by_torch)


def test_a_gate_without_photos_is_refused(small_export: Small) -> None:
    """Where no photo can be read there is no gate, so the export ends."""
    session = Session(small_export[2], device="cpu")
    assert refusal(lambda: run_both(small_export[0], session, [Named("a"), Named("b")], quiet)) == (
        "the gate needs real photos, and none of those given can be read\n"
        "  where: 2 files tried\n"
        "  do:    name photos with --check"
    )
