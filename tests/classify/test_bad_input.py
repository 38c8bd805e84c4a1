"""What people give that cannot be right: they are told what, where and what to do, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image, ImageOps

from gendercls.classify.provider import why_no_cuda
from gendercls.modelfile import shipped_model

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Rows = Callable[[Path], list[dict[str, str]]]
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def folder(tmp_path: Path, take: Take) -> Path:
    """A folder with two photos in ``photos`` and nothing else."""
    take(tmp_path / "photos", 2)
    return tmp_path


def refused(run_gendercls: Run, folder: Path, *arguments: object, status: int = 1) -> str:
    """What the command says that must end with that status and leave the folder as it was."""
    before = sorted(folder.rglob("*"))
    done = run_gendercls("classify", *arguments, "--device", "cpu", cwd=folder)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert sorted(folder.rglob("*")) == before
    return done.stderr


def error(what: str, where: str, do: str) -> str:
    """An error as STYLE.md has it."""
    return f"Error: {what}\n  where: {where}\n  do:    {do}\n"


# --- folders ----------------------------------------------------------------------------------------------------


def test_a_missing_folder(folder: Path, run_gendercls: Run) -> None:
    """It is named, and no empty result is written."""
    said = refused(run_gendercls, folder, "photos", "gone", "--out", "o.csv")
    assert said == error("no such file or folder", "gone", "check the path")


@pytest.mark.parametrize("content", [None, ".hidden.jpg"])
def test_an_empty_folder(tmp_path: Path, run_gendercls: Run, content: str | None) -> None:
    """A folder without files, or with hidden ones alone."""
    (tmp_path / "photos").mkdir()
    if content:
        (tmp_path / "photos" / content).touch()
    assert refused(run_gendercls, tmp_path, "photos", "--out", "o.csv") == error(
        "there are no files to classify", "photos", "name a folder that holds some; hidden files do not count"
    )


NO_FOLDER = ("the output's folder does not exist", "make it, or choose another --out")
EXISTS = ("the output already exists", "choose another --out, or repeat with --force to replace it")


@pytest.mark.parametrize(
    ("out", "what", "do"),
    [
        ("gone/o.csv", *NO_FOLDER),
        ("photos/000001.jpg/o.csv", *NO_FOLDER),
        ("photos", "the output is a folder", "name a file in it, as in --out photos/preds.csv"),
        ("photos/000001.jpg", *EXISTS),
        ("o" * 251, "the output's name is too long", "choose one of at most 242 bytes"),
    ],
)
def test_an_output_that_cannot_be(folder: Path, run_gendercls: Run, out: str, what: str, do: str) -> None:
    """It is refused before any work, and what is there already stays."""
    assert refused(run_gendercls, folder, "photos", "--out", out) == error(what, out, do)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("mine.txt"), Path.mkdir])
@pytest.mark.parametrize("name", ["o.csv.part", "o.csv.run.json"])
def test_a_companion_of_the_output_that_is_no_file(
    folder: Path, run_gendercls: Run, name: str, make: Callable[[Path], object]
) -> None:
    """It is neither waited for nor written through: a link may lead to somebody's file."""
    (folder / "mine.txt").write_text("mine")
    make(folder / name)
    said = error(f"{name}, which belongs to the output, is no file", "o.csv", "take it away, or choose another --out")
    for more in ((), ("--restart",)):
        assert refused(run_gendercls, folder, "photos", "--out", "o.csv", *more) == said
    assert (folder / "mine.txt").read_text() == "mine"


def test_an_output_that_is_a_fifo(folder: Path, run_gendercls: Run) -> None:
    """It keeps its name, also with ``--force``."""
    os.mkfifo(folder / "fifo")
    said = error("the output is no file", "fifo", "name one, as in --out preds.csv")
    assert refused(run_gendercls, folder, "photos", "--out", "fifo", "--force") == said
    assert (folder / "fifo").is_fifo()


def test_an_output_folder_that_is_not_writable(folder: Path, run_gendercls: Run) -> None:
    """As root, whom permissions do not bind, on a file system that takes no files."""
    place = Path("/proc/self") if os.geteuid() == 0 else folder / "shut"
    if os.geteuid() != 0:
        place.mkdir(0o500)
    elif os.access(place, os.W_OK):
        pytest.skip("root may write everywhere here")
    assert refused(run_gendercls, folder, "photos", "--out", place / "o.csv") == error(
        "the output's folder is not writable", f"{place}/o.csv", "make it writable, or choose another --out"
    )


# --- photos -----------------------------------------------------------------------------------------------------


def bomb(path: Path) -> None:
    """A PNG of 20,000 × 20,000 black pixels in 50 kB."""
    packer = zlib.compressobj(9)
    lines = b"".join(packer.compress(bytes(2501)) for _ in range(20_000)) + packer.flush()
    head = (20_000).to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
    chunks = [(b"IHDR", head), (b"IDAT", lines), (b"IEND", b"")]
    packed = (len(c).to_bytes(4, "big") + n + c + zlib.crc32(n + c).to_bytes(4, "big") for n, c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def test_files_that_are_no_photos_or_broken_ones(folder: Path, run_gendercls: Run, rows: Rows) -> None:
    """Each is a row with its reason in one line; the good photos have their answers; ``--strict`` counts five."""
    whole = (folder / "photos" / "000002.jpg").read_bytes()
    (folder / "photos" / "cut.jpg").write_bytes(whole[: len(whole) - 2000])
    (folder / "photos" / "head.jpg").write_bytes(whole[:100])
    (folder / "photos" / "text.jpg").write_text("not a photo at all")
    (folder / "photos" / "zero.jpg").touch()
    (folder / "photos" / "zero").touch()
    (folder / "photos" / "preds.xmp").write_text("<x:xmpmeta/>")
    bomb(folder / "photos" / "bomb.png")
    done = run_gendercls("classify", "photos", "--out", "o.csv", "--quiet", "--strict", cwd=folder)
    assert done.returncode == 3
    assert done.stderr == error("5 photos failed", "o.csv", "see the column 'error' of their rows")
    found = {row["path"]: (row["label"] in ("female", "male"), row["error"]) for row in rows(folder / "o.csv")}
    assert found == {
        "000001.jpg": (True, ""),
        "000002.jpg": (True, ""),
        "bomb.png": (False, "more than 178 million pixels"),
        "cut.jpg": (False, found["cut.jpg"][1]),
        "head.jpg": (False, found["head.jpg"][1]),
        "preds.xmp": (False, "not a photo"),
        "text.jpg": (False, "no photo inside: named .jpg"),
        "zero": (False, "not a photo"),
        "zero.jpg": (False, "empty file"),
    }
    assert found["cut.jpg"][1].startswith("damaged photo: image file is truncated")
    assert found["head.jpg"][1]


def test_photos_of_any_kind_are_answered(folder: Path, run_gendercls: Run, rows: Rows) -> None:
    """Files that show the same picture get the same digits: GIF, animated WebP, palette, 16-bit, EXIF-rotated."""
    photos = folder / "photos"
    upright = Image.open(photos / "000001.jpg").convert("RGB")
    upright.save(photos / "1-upright.png")
    upright.save(photos / "1-webp.webp", lossless=True, save_all=True, append_images=[ImageOps.invert(upright)])
    for tag, turned in {3: 180, 6: 90, 8: 270}.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        upright.rotate(turned, expand=True).save(photos / f"1-exif-{tag}.png", exif=exif)
    palette = upright.quantize(64)
    palette.convert("RGB").save(photos / "2-upright.png")
    palette.save(photos / "2-palette.png")
    palette.save(photos / "2-gif.gif")
    grey = upright.convert("L")
    grey.convert("RGB").save(photos / "3-upright.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(photos / "3-sixteen.png")
    upright.convert("CMYK").save(photos / "4-cmyk.jpg", quality=100)
    done = run_gendercls("classify", "photos", "--out", "o.csv", "--quiet", "--strict", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    answers = {row["path"]: row["p_male"] for row in rows(folder / "o.csv")}
    for name, answer in answers.items():
        if name[1] == "-" and name[0] != "4":
            assert answer == answers[f"{name[0]}-upright.png"], name
    assert float(answers["4-cmyk.jpg"]) == pytest.approx(float(answers["1-upright.png"]), abs=0.05)


NAMES = {  # raw, and as the CSV has it, in their order
    b"'q'.jpg": "'q'.jpg",
    b"-x.jpg": "./-x.jpg",
    b"=cmd().jpg": "./=cmd().jpg",
    b"a\nb\r.jpg": "a\nb\r.jpg",
    b'a"b,c.jpg': 'a"b,c.jpg',
    b"caf\xc3\xa9.jpg": "café.jpg",
    b"caf\xe9.jpg": "caf\\xe9.jpg",
}


def test_names_of_any_kind_are_kept(tmp_path: Path, take: Take, run_gendercls: Run, rows: Rows) -> None:
    """A newline, quotes, bytes that are not UTF-8, a leading ``=``: each has its row, and goes on after a stop."""
    (photo,) = take(tmp_path, 1)
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        shutil.copy(photo, tmp_path / "photos" / os.fsdecode(name))
    assert run_gendercls("classify", "photos", "--out", "o.csv", "--quiet", cwd=tmp_path).returncode == 0
    assert [row["path"] for row in rows(tmp_path / "o.csv")] == list(NAMES.values())
    assert len({row["p_male"] for row in rows(tmp_path / "o.csv")} - {""}) == 1
    whole = (tmp_path / "o.csv").read_bytes()
    (tmp_path / "o.csv").unlink()
    (tmp_path / "o.csv.part").write_bytes(whole[:-5])
    assert run_gendercls("classify", "photos", "--out", "o.csv", "--quiet", cwd=tmp_path).returncode == 0
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_a_folder_and_an_output_that_are_not_utf8(folder: Path, run_gendercls: Run) -> None:
    """The run, its record, its JSON and going on work with raw names; what is shown is escaped."""
    name = os.fsdecode(b"caf\xe9")
    (folder / "photos").rename(folder / name)
    done = run_gendercls("classify", name, "--out", f"{name}.csv", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == f"{name}.csv"
    assert "rows: caf\\udce9.csv\n" in done.stderr
    (folder / f"{name}.csv").rename(folder / f"{name}.csv.part")
    again = run_gendercls("classify", name, "--out", f"{name}.csv", "--json", cwd=folder)
    assert json.loads(again.stdout)["kept_files"] == 1


# --- models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proto() -> bytes:
    """The shipped model."""
    return shipped_model().read_bytes()


def spec_of(model: onnx.ModelProto) -> Any:
    """The entry of the model's metadata that holds the spec."""
    return next(entry for entry in model.metadata_props if entry.key == "gendercls")


def with_spec(**changes: object) -> Change:
    """Replace keys of the spec."""

    def change(model: onnx.ModelProto) -> None:
        entry = spec_of(model)
        entry.value = json.dumps(json.loads(entry.value) | changes)

    return change


def lie(model: onnx.ModelProto) -> None:
    """Promise other probabilities of the self-test."""
    entry = spec_of(model)
    spec = json.loads(entry.value)
    spec["self_test"]["probabilities"] = [[0.5, 0.5] for _ in spec["self_test"]["seeds"]]
    entry.value = json.dumps(spec)


def forget(model: onnx.ModelProto) -> None:
    """Drop the spec."""
    model.metadata_props.remove(spec_of(model))


def narrow(model: onnx.ModelProto) -> None:
    """Take one photo at a time, as an export on an example batch of 1 would."""
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[0].dim_value = 1


def widen(model: onnx.ModelProto) -> None:
    """Give the input another name."""
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]


MODELS: dict[str, tuple[Change, str, str]] = {
    "no-spec": (
        forget,
        "the ONNX file has no gendercls spec, so its classes and preprocessing are unknown",
        "give a file made by gendercls export",
    ),
    "newer-format": (
        with_spec(format=[2, 0]),
        "the model's format is 2.0; this version of gendercls reads 1.x",
        "install a newer gendercls",
    ),
    "older-format": (
        with_spec(format=[0, 9]),
        "the model's format is 0.9; this version of gendercls reads 1.x",
        "export the model again",
    ),
    "other-input": (
        widen,
        "the model's input is not 'images', uint8 [N, {height}, {width}, 3]",
        "export it again",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_not_ours(folder: Path, run_gendercls: Run, proto: bytes, name: str) -> None:
    """An ONNX file that does not keep the contract is refused, with what of it is not kept."""
    change, what, do = MODELS[name]
    model = onnx.load_from_string(proto)
    size = json.loads(spec_of(model).value)["preprocessing"]
    change(model)
    onnx.save(model, folder / "m.onnx")
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx")
    assert said == error(what.format(**size), "m.onnx", do)


def test_a_model_that_fails_its_self_test(folder: Path, run_gendercls: Run, proto: bytes) -> None:
    """It is not used: it answers otherwise than when it was made."""
    model = onnx.load_from_string(proto)
    lie(model)
    onnx.save(model, folder / "m.onnx")
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx")
    difference = said.partition("off by ")[2].partition(",")[0]
    tolerance = json.loads(spec_of(model).value)["self_test"]["tolerance"]
    assert said == error(
        f"the model fails its self-test: it is off by {difference}, {tolerance:g} is allowed",
        "m.onnx on cpu",
        "the file may be damaged: fetch or export it again",
    )
    assert 0.01 < float(difference) <= 0.5


def test_a_model_that_takes_one_photo_at_a_time(folder: Path, run_gendercls: Run, proto: bytes) -> None:
    """onnxruntime's own words are passed on in one line."""
    model = onnx.load_from_string(proto)
    narrow(model)
    onnx.save(model, folder / "m.onnx")
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx")
    words = said.partition("cannot run the model: ")[2].partition("\n")[0]
    assert words
    assert said == error(
        f"onnxruntime cannot run the model: {words}",
        "m.onnx on cpu, 2 photos at once",
        "choose a smaller --batch-size; if that changes nothing, export the model again",
    )


def test_a_model_with_external_data(folder: Path, run_gendercls: Run, proto: bytes) -> None:
    """A file that needs another beside it is refused before onnxruntime looks for that."""
    onnx.save(onnx.load_from_string(proto), folder / "m.onnx", save_as_external_data=True, location="m.data")
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx")
    assert said == error(
        "the model keeps its weights in another file", "m.onnx", "give one file made by gendercls export"
    )


@pytest.mark.parametrize(
    ("content", "what", "do"),
    [
        (b"not a model", "the model is no ONNX file, or a damaged one", "give a file made by gendercls export"),
        (b"", "the model is no ONNX file, or a damaged one", "give a file made by gendercls export"),
        (None, "the model cannot be read: No such file or directory", "check the path given with --model"),
    ],
)
def test_a_model_that_is_no_onnx(folder: Path, run_gendercls: Run, content: bytes | None, what: str, do: str) -> None:
    """A text, an empty file, and no file."""
    if content is not None:
        (folder / "m.onnx").write_bytes(content)
    assert refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx") == error(what, "m.onnx", do)


def test_a_model_that_is_cut_off(folder: Path, run_gendercls: Run, proto: bytes) -> None:
    """Half a download is no model."""
    (folder / "m.onnx").write_bytes(proto[: len(proto) // 2])
    assert refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx") == error(
        "the model is no ONNX file, or a damaged one", "m.onnx", "give a file made by gendercls export"
    )


@pytest.mark.parametrize("command", [("classify", "photos", "--out", "o.csv", "--device", "cpu", "--model"), ("info",)])
def test_a_newer_minor_format_warns(folder: Path, run_gendercls: Run, proto: bytes, command: tuple[str, ...]) -> None:
    """'A newer minor warns': the work is done, and the first line says so."""
    model = onnx.load_from_string(proto)
    with_spec(format=[1, 7], independent=False, familiar_norm=None, figures=[], surprise={"never": "seen"})(model)
    onnx.save(model, folder / "m.onnx")
    done = run_gendercls(*command, "m.onnx", cwd=folder)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        "warning: m.onnx has format 1.7, this gendercls knows 1.2; what is new in it is not used"
    )


# --- labels -----------------------------------------------------------------------------------------------------

NOT_IN = "give the labels of these photos; they match by relative path, else by a file name that only one has"
LABELS: dict[str, tuple[str, tuple[str, ...], str, str, str]] = {
    "of other photos": (
        "path,Male\nx.jpg,1\n",
        (),
        "none of the photos (2) is in the labels",
        "l.csv, which has no 000001.jpg",
        NOT_IN,
    ),
    "of several photos of that name": (
        "path,Male\na/000001.jpg,1\nb/000001.jpg,0\n",
        (),
        "none of the photos (2) is in the labels",
        "l.csv, which has several 000001.jpg",
        NOT_IN,
    ),
    "without a path": (
        "photo_name,Male\n000001.jpg,1\n",
        (),
        "the CSV has no column for the photo's path",
        "l.csv:1 has: photo_name, Male",
        "name one column 'path' (or file, filename, file_name, image, image_id, img, photo)",
    ),
    "with an attribute misspelt": (
        "path,Mael,Young\n000001.jpg,1,1\n",
        (),
        "no attribute 'Male'",
        "the attributes of l.csv\n         !Male\n          ^^^^",
        "did you mean 'Mael'?",
    ),
    "without the attribute": (
        "path,Smiling\n000001.jpg,1\n",
        (),
        "no attribute 'Male'",
        "the attributes of l.csv\n         !Male\n          ^^^^",
        "the attributes are: Smiling",
    ),
    "without a split": (
        "path,Male\n000001.jpg,1\n",
        ("--split", "test"),
        "the labels do not say which photo is in which part",
        "l.csv",
        "leave out --split",
    ),
    "without that part": (
        "path,Male,split\n000001.jpg,1,train\n",
        ("--split", "test"),
        "none of the photos (2) is in the part 'test'",
        "l.csv",
        "name another --split, or other photos",
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(folder: Path, run_gendercls: Run, name: str) -> None:
    """Labels that cannot score these photos are refused before any photo is read."""
    text, more, what, where, do = LABELS[name]
    (folder / "l.csv").write_text(text)
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--labels", "l.csv", *more)
    assert said == error(what, where, do)


@pytest.mark.parametrize(("name", "what", "do"), [
    ("gone.csv", "no such label file or folder", "check the path"),
    ("l" * 300, "File name too long", "repeat with --debug to see more"),
])  # fmt: skip
def test_labels_that_are_not_there(folder: Path, run_gendercls: Run, name: str, what: str, do: str) -> None:
    """Also where the system will not even look for them: no library's exception gets through raw."""
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--labels", name)
    assert said == error(what, name, do)


def test_labels_that_two_classes_claim(folder: Path, run_gendercls: Run, proto: bytes) -> None:
    """A rule that overlaps another is named with a photo that both cover."""
    rules = [{"name": "female", "rule": "Young"}, {"name": "male", "rule": "Male"}]
    model = onnx.load_from_string(proto)
    with_spec(classes=rules)(model)
    onnx.save(model, folder / "m.onnx")
    (folder / "l.csv").write_text("path,Male,Young\n000001.jpg,0,1\n000002.jpg,1,1\n")
    said = refused(run_gendercls, folder, "photos", "--out", "o.csv", "--model", "m.onnx", "--labels", "l.csv")
    assert said == error(
        "the classes 'female' and 'male' overlap: 1 photo is in both",
        "'Young' and 'Male', for example at 000002.jpg",
        "make the rules exclude each other, for example with '& !…'",
    )


# --- options ----------------------------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[str, str, str]] = {
    "--jobs 0": ("jobs is 0", "--jobs", "give a number of 1 or more"),
    "--batch-size -1": ("batch_size is -1", "--batch-size", "give a number of 1 or more"),
    "--batch-size 99999999999999999999": (
        "batch_size is 1e+20",
        "--batch-size",
        "give a number of 65,536 or less",
    ),
    "--min-confidence 1.5": ("min_confidence is 1.5", "--min-confidence", "give a number of 0 to 1"),
    "--max-error nan": ("max_error is nan", "--max-error", "give a number of 0 to 1"),
    "--max-error 0.1 --min-confidence 0.9": (
        "two thresholds are given",
        "--min-confidence and --max-error",
        "give one of them",
    ),
    "--split val": (
        "--split needs --labels",
        "--split val",
        "name the labels that say which photo is in which part",
    ),
    "--device gpu": ("no device 'gpu'", "--device", "use auto, cpu, cuda or cuda:N"),
}


@pytest.mark.parametrize("typed", OPTIONS)
def test_options_out_of_range(folder: Path, run_gendercls: Run, typed: str) -> None:
    """Wrong usage exits with 2."""
    done = run_gendercls("classify", "photos", "--out", "o.csv", *typed.split(), cwd=folder)
    assert (done.returncode, done.stderr) == (2, error(*OPTIONS[typed]))
    assert os.listdir(folder) == ["photos"]


def test_an_error_rate_that_no_threshold_keeps(folder: Path, run_gendercls: Run, proto: bytes) -> None:
    """It says which rate the model's table has."""
    spec = json.loads(spec_of(onnx.load_from_string(proto)).value)
    least = min(row["wanted_error"] for row in spec["thresholds"])
    assert refused(run_gendercls, folder, "photos", "--out", "o.csv", "--max-error", least / 10) == error(
        f"no confidence keeps an error rate of {least / 10:g} on the photos this model was validated on",
        f"the threshold table of {spec['name']}",
        f"ask for --max-error {least:g} or more",
    )


def test_cuda_that_does_not_work(folder: Path, run_gendercls: Run) -> None:
    """``--device cuda`` fails with what is missing; ``auto`` falls back and says the same."""
    missing = why_no_cuda()
    if not missing:
        pytest.skip("CUDA works here")
    done = run_gendercls("classify", "photos", "--out", "o.csv", "--device", "cuda", cwd=folder)
    assert (done.returncode, done.stderr) == (
        1,
        error(f"CUDA does not work here: {missing}", "--device cuda", "mend that, or use --device cpu"),
    )
    assert os.listdir(folder) == ["photos"]
    said = run_gendercls("classify", "photos", "--out", "o.csv", cwd=folder).stderr
    assert said.splitlines()[0] == f"ran on the CPU: {missing}"


EXAMPLE = """
For example:
  gendercls classify ./photos --out preds.csv
  gendercls classify ./photos --out preds.csv --labels list_attr_celeba.txt
"""


@pytest.mark.parametrize(
    ("typed", "what"), [(("--out", "o.csv"), "Missing argument 'PHOTOS…'."), (("photos",), "Missing option '--out'.")]
)
def test_a_missing_argument_is_answered_with_an_example(
    folder: Path, run_gendercls: Run, typed: tuple[str, ...], what: str
) -> None:
    """Two lines that work, not only a usage error."""
    done = run_gendercls("classify", *typed, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.partition("\n\n")[2] == f"Error: {what}\n{EXAMPLE}"


def test_debug_shows_the_traceback(folder: Path, run_gendercls: Run) -> None:
    """Then, and only then, and the message comes last all the same."""
    said = refused(run_gendercls, folder, "gone", "--out", "o.csv", "--debug")
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith(error("no such file or folder", "gone", "check the path"))
