"""The cache of decoded photos: it holds what decoding gives, whatever happens to the processes or files."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gendercls.errors import GenderclsError, InterruptedRunError, OutputError, PhotoError, UsageError
from gendercls.images import to_array
from gendercls.train.augment import decode_for_views
from gendercls.train.cache import Form, check_cache_folder, fill_cache, open_cache
from gendercls.train.recipe import Recipe, load_recipe

RECIPE = load_recipe("default", ["size=75"])
Photos = tuple[list[Path], list[str]]


def photos_of(paths: list[Path]) -> Photos:
    return paths, [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.fixture(scope="module")
def photos(celeba: Path, fairface: Path) -> Photos:
    """Real photos of two sizes and two formats, and their digests."""
    faces = sorted((fairface / "train").iterdir())
    return photos_of(sorted((celeba / "img_align_celeba").iterdir())[:36] + faces[:2] + faces[-2:])


def fill(
    folder: Path,
    photos: Photos,
    *,
    recipe: Recipe = RECIPE,
    form: Form = "views",
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """What filling the cache reports."""
    said: list[str] = []
    fill_cache(folder, *photos, recipe, form, said.append, stop)
    return said


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.photos"))


def expected(path: Path, form: Form = "views", recipe: Recipe = RECIPE) -> NDArray[np.uint8]:
    if form == "evaluation":
        return to_array(path.read_bytes(), recipe.preprocessing())
    return np.asarray(decode_for_views(path.read_bytes(), recipe.size))


def assert_holds(folder: Path, photos: Photos, *, form: Form = "views", recipe: Recipe = RECIPE) -> None:
    """The cache gives each photo's decoded pixels, in the order that is asked for."""
    paths, digests = photos
    for order in (range(len(paths)), range(len(paths))[::-1]):
        cached = open_cache(folder, [digests[n] for n in order], recipe, form)
        assert len(cached) == len(paths)
        for place, number in enumerate(order):
            np.testing.assert_array_equal(cached.pixels(place), expected(paths[number], form, recipe))


@pytest.mark.parametrize("form", ["views", "evaluation"])
def test_the_cache_holds_what_decoding_gives(tmp_path: Path, photos: Photos, form: Form) -> None:
    """Every photo's pixels are those of decoding it, and the person is told what is cached where."""
    said = fill(tmp_path / "new" / "cache", photos, form=form)
    assert_holds(tmp_path / "new" / "cache", photos, form=form)
    (home,) = (tmp_path / "new" / "cache").iterdir()
    assert said[0].startswith("caching 40 decoded photos, about ")
    assert said[0].endswith(f" MB, in {home}")
    assert len(said) == 1  # a set this small has no progress to tell


def test_only_what_is_missing_is_decoded(tmp_path: Path, photos: Photos) -> None:
    """Filled again, nothing is written or said; with more photos only those are added; duplicates are kept once."""
    paths, digests = photos
    fill(tmp_path, (paths[:30], digests[:30]))
    before = {shard: shard.stat().st_mtime_ns for shard in shards(tmp_path)}
    assert fill(tmp_path, (paths[:30], digests[:30])) == []
    assert fill(tmp_path, (paths[20:] + paths[-3:], digests[20:] + digests[-3:]))[0].startswith("caching 10 decoded")
    assert {shard: shard.stat().st_mtime_ns for shard in shards(tmp_path) if shard in before} == before
    assert_holds(tmp_path, photos)


def test_a_changed_photo_is_decoded_anew(tmp_path: Path, photos: Photos) -> None:
    """A photo with other bytes has another digest, so its old pixels are never shown for it."""
    path = tmp_path / "photo.jpg"
    for source in photos[0][:2]:
        path.write_bytes(source.read_bytes())
        assert fill(tmp_path / "cache", photos_of([path]))[0].startswith("caching 1 decoded photos")
        assert_holds(tmp_path / "cache", photos_of([path]))


@pytest.mark.parametrize("other", [{"size": 80}, {"fit": "pad"}, {"resampling": "lanczos"}])
def test_photos_for_another_recipe_lie_apart(tmp_path: Path, photos: Photos, other: dict[str, object]) -> None:
    """Evaluation's pixels depend on size, fit and resampling, and each recipe gets its own."""
    few, changes = (photos[0][:4], photos[1][:4]), {"size": 75} | other
    recipe = load_recipe("default", [f"{key}={value}" for key, value in changes.items()])
    fill(tmp_path, few, form="evaluation")
    fill(tmp_path, few, form="evaluation", recipe=recipe)
    assert_holds(tmp_path, few, form="evaluation")
    assert_holds(tmp_path, few, form="evaluation", recipe=recipe)


def test_augmentation_does_not_change_what_is_cached(tmp_path: Path, photos: Photos) -> None:
    """Recipes of one size share the photos that their views are made from."""
    fill(tmp_path, photos)
    assert fill(tmp_path, photos, recipe=load_recipe("default", ["size=75", "fit=squash", "rotation=3"])) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"not a file of this project"),
        lambda path: path.write_bytes(path.read_bytes()[:1000] + b"\x00\x01" + path.read_bytes()[1002:]),
    ],
)
def test_a_damaged_file_is_named_and_made_anew(
    tmp_path: Path, photos: Photos, damage: Callable[[Path], object]
) -> None:
    """A truncated, foreign or changed file of the cache is named, and its photos are decoded anew."""
    fill(tmp_path, photos)
    whole = {shard: shard.read_bytes() for shard in shards(tmp_path)}
    bad = shards(tmp_path)[1]
    damage(bad)
    said = fill(tmp_path, photos)
    assert said[0] == f"a damaged file of the cache is made anew: {bad}"
    assert said[1].startswith("caching 5 decoded photos")
    assert_holds(tmp_path, photos)
    assert {shard: shard.read_bytes() for shard in whole if shard != bad} == {
        shard: data for shard, data in whole.items() if shard != bad
    }


def test_other_files_are_left_alone(tmp_path: Path, photos: Photos) -> None:
    """A folder that holds other things keeps them."""
    (tmp_path / "notes.txt").write_text("mine")
    fill(tmp_path, photos)
    (shards(tmp_path)[0].parent / "notes.txt").write_text("mine too")
    assert fill(tmp_path, photos) == []
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (shards(tmp_path)[0].parent / "notes.txt").read_text() == "mine too"


# Run in a process of its own: fills the cache and kills itself, workers and all (or itself alone, so that its workers
# have to find out), when so many photos are decoded.
KILLED = """
import os, signal, sys
from pathlib import Path
from gendercls.train import cache, workers
from gendercls.train.recipe import load_recipe

folder, count, whom, *photos = sys.argv[1:]
decode, done = cache._pixels_of, []

def counted(photo, recipe, form):
    done.append(photo)
    if len(done) > len(paths) + int(count):  # the first are those of the estimate
        os.killpg(0, signal.SIGKILL) if whom == "all" else os.kill(os.getppid(), signal.SIGKILL)
    return decode(photo, recipe, form)

cache._pixels_of = counted
paths = [Path(photo) for photo in photos[::2]]
cache.available_cores = workers.available_cores = lambda: 1
cache.fill_cache(Path(folder), paths, photos[1::2], load_recipe("default", ["size=75"]), "views", print)
"""


def fill_and_kill(folder: Path, photos: Photos, decoded: int, whom: str) -> None:
    words = [str(word) for pair in zip(*photos, strict=True) for word in pair]
    script = [sys.executable, "-c", KILLED, str(folder), str(decoded), whom, *words]
    # Ends when all processes that hold the pipes have ended.
    ended = subprocess.run(script, start_new_session=True, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("decoded", [3, 17, 31])
def test_a_killed_process_leaves_whole_files(tmp_path: Path, photos: Photos, decoded: int) -> None:
    """Killed at any moment, what is there is whole and is kept, and filling again adds the rest."""
    fill_and_kill(tmp_path, photos, decoded, "all")
    kept = {shard: shard.stat().st_mtime_ns for shard in shards(tmp_path)}
    assert len(kept) == decoded // 10  # of four shards, with one worker
    assert fill(tmp_path, photos)[0].startswith(f"caching {40 - 10 * len(kept)} decoded photos")
    assert {shard: shard.stat().st_mtime_ns for shard in shards(tmp_path) if shard in kept} == kept
    assert_holds(tmp_path, photos)


def test_no_worker_outlives_a_killed_process(tmp_path: Path, photos: Photos) -> None:
    """When the main process alone is killed, its workers end too, and nothing that they wrote is damaged."""
    fill_and_kill(tmp_path, photos, 17, "main")
    assert not [line for line in fill(tmp_path, photos) if line.startswith("a damaged file")]
    assert_holds(tmp_path, photos)


def test_what_a_killed_process_left_is_removed_later(tmp_path: Path, photos: Photos) -> None:
    """An unfinished file that nothing has written to for an hour goes; one that is being written stays."""
    fill(tmp_path, photos)
    home = shards(tmp_path)[0].parent
    old, new = home / ".old.tmp", home / ".new.tmp"
    for path in (old, new):
        path.write_bytes(b"half a shard")
    an_hour_ago = new.stat().st_mtime - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    fill(tmp_path, photos)
    assert (old.exists(), new.exists()) == (False, True)


def test_two_processes_may_fill_one_folder_at_once(tmp_path: Path, photos: Photos) -> None:
    """Two runs that fill the same folder at the same time both end well, and each photo is there once."""
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=fill, args=(tmp_path, photos)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert_holds(tmp_path, photos)
    assert len(shards(tmp_path)) == 8
    assert fill(tmp_path, photos) == []


def test_a_disk_without_room_is_known_before(tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is decoded it is said how much the cache needs and how much is free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6))
    alike = photos_of(photos[0][:36])
    with pytest.raises(OutputError) as caught:
        fill(tmp_path, alike)
    (home,) = tmp_path.iterdir()
    assert str(caught.value) == (
        "the cache needs about 1.0 MB and 1.0 MB are free\n"
        f"  where: {home}\n"
        "  do:    free some disk, name a folder on another one, or leave --cache out: "
        "photos are then decoded each time"
    )
    assert shards(tmp_path) == []


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """As a full disk: writing a file of more than 50,000 bytes fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_up_is_an_error_and_nothing_is_lost(
    tmp_path: Path, photos: Photos, request: pytest.FixtureRequest
) -> None:
    """When writing fails, the error says why and how much is needed; what was there stays and nothing half is left."""
    first = (photos[0][:8], photos[1][:8])
    fill(tmp_path, first)
    request.getfixturevalue("no_large_files")
    with pytest.raises(OutputError) as caught:
        fill(tmp_path, photos)
    (home,) = tmp_path.iterdir()
    what, rest = str(caught.value).split("\n", 1)
    assert what.startswith("the cache cannot be written: File too large; it needs about 1.")
    assert what.endswith(" MB in all")
    assert rest == (
        f"  where: {home}\n"
        "  do:    free some disk or name another folder with --cache, and repeat the command: what is cached is kept"
    )
    assert_holds(tmp_path, first)
    assert list(home.glob(".*")) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, photos: Photos) -> None:
    """A file where the folder should be is an error that names it."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"^the cache cannot be written: Not a directory\n  where: .*/file/views-75-"):
        fill(tmp_path / "file", photos)


def killed(*_: object, **__: object) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_process_that_is_ended_from_outside_is_an_error(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that the system kills, as it does without memory, is told as such."""
    monkeypatch.setattr("gendercls.train.cache._write_shard", killed)
    with pytest.raises(GenderclsError) as caught:
        fill(tmp_path, photos)
    assert str(caught.value) == (
        "a process that decoded photos was ended from outside\n"
        f"  where: {next(tmp_path.iterdir())}\n"
        "  do:    see that there is memory enough, and repeat the command: what is cached is kept"
    )


def test_a_photo_that_changes_meanwhile_is_named(tmp_path: Path, photos: Photos) -> None:
    """A photo that is gone, or has other bytes than when it was checked, is an error that names it."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(photos[0][0].read_bytes())
    checked = photos_of([path])
    path.write_bytes(photos[0][1].read_bytes())
    message = (
        "a photo has changed since it was checked: {}\n"
        f"  where: {path}\n"
        "  do:    repeat the command, which checks all photos anew"
    )
    with pytest.raises(PhotoError) as caught:
        fill(tmp_path / "cache", checked)
    assert str(caught.value) == message.format("it has other bytes")
    path.unlink()
    with pytest.raises(PhotoError) as caught:
        fill(tmp_path / "cache", checked)
    assert str(caught.value) == message.format("No such file or directory")


def test_filling_can_be_stopped_and_continued(tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to stop, filling finishes what it has begun, says how much that is, and goes on from there next time."""
    monkeypatch.setattr("gendercls.train.cache.available_cores", lambda: 2)
    with pytest.raises(InterruptedRunError) as caught:
        fill(tmp_path, photos, stop=iter([False, False, False, True]).__next__)
    (home,) = tmp_path.iterdir()
    assert str(caught.value) == (
        "interrupted while photos were cached; 15 of 40 are kept\n"
        f"  where: {home}\n"
        "  do:    repeat the command to continue"
    )
    assert fill(tmp_path, photos)[0].startswith("caching 25 decoded photos")
    assert_holds(tmp_path, photos)


def test_a_photo_that_the_cache_lacks_is_an_error(tmp_path: Path, photos: Photos) -> None:
    """Opening a cache that was emptied by others says what to do."""
    fill(tmp_path, photos)
    (home,) = tmp_path.iterdir()
    shards(tmp_path)[0].unlink()
    message = (
        "the cache has changed since it was filled\n"
        f"  where: {home}\n"
        "  do:    see that nothing else works in this folder, and repeat the command"
    )
    with pytest.raises(OutputError) as caught:
        open_cache(tmp_path, photos[1], RECIPE, "views")
    assert str(caught.value) == message
    (home / f"{'0' * 64}.photos").write_bytes(b"foreign")
    with pytest.raises(OutputError) as caught:
        open_cache(tmp_path, photos[1], RECIPE, "views")
    assert str(caught.value) == message


def test_writing_to_pixels_does_not_change_the_cache(tmp_path: Path, photos: Photos) -> None:
    """What a process does to pixels that it got stays in that process."""
    fill(tmp_path, photos)
    open_cache(tmp_path, photos[1], RECIPE, "views").pixels(0)[:] = 0
    assert_holds(tmp_path, photos)


def test_no_pixels_are_sent_to_another_process(tmp_path: Path, photos: Photos) -> None:
    """What is sent to a process that opens the cache too is where the pixels lie, also after they were read here."""
    fill(tmp_path, photos)
    cached = open_cache(tmp_path, photos[1], RECIPE, "views")
    pixels = cached.pixels(0)
    sent = pickle.dumps(cached)
    assert len(sent) < pixels.nbytes
    np.testing.assert_array_equal(pickle.loads(sent).pixels(0), pixels)  # noqa: S301 - made here


def test_a_share_is_every_nth_photo(tmp_path: Path, photos: Photos) -> None:
    """The shares of several processes are disjoint and together the whole."""
    fill(tmp_path, photos)
    cached = open_cache(tmp_path, photos[1], RECIPE, "views")
    for rank in range(3):
        share = cached.share(rank, 3)
        assert len(share) == len(photos[0][rank::3])
        for number, path in enumerate(photos[0][rank::3]):
            np.testing.assert_array_equal(share.pixels(number), expected(path))


def test_the_cache_is_never_in_the_data(tmp_path: Path) -> None:
    """A folder within the data, by whatever way it is named, is refused; one beside it is not."""
    data = tmp_path / "data"
    (data / "photos").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    for folder in (data, data / "cache", tmp_path / "link" / "cache", data / "photos" / ".." / "cache"):
        with pytest.raises(UsageError) as caught:
            check_cache_folder(folder, [tmp_path / "elsewhere", data])
        assert str(caught.value) == (
            "the cache would lie within the data\n"
            f"  where: --cache {folder}, in {data}\n"
            "  do:    name a folder elsewhere"
        )
    check_cache_folder(tmp_path / "cache", [data])
    check_cache_folder(tmp_path / "data-cache", [data])


def test_large_photos_take_little_room(tmp_path: Path) -> None:
    """A large photo of a format that cannot be decoded at a smaller scale is kept at the size that views need."""
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (900, 700, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    photos = photos_of([tmp_path / "a.png"])
    fill(tmp_path / "cache", photos)
    assert open_cache(tmp_path / "cache", photos[1], RECIPE, "views").pixels(0).shape == (225, 175, 3)
