"""Decoded photos kept on disk: later epochs and later runs read pixels instead of decoding.

A cache folder has a folder for each form of photos (what a recipe's views start from; what its evaluation sees). In it
lie shards: the pixels of some photos one after another, then an index by the SHA-256 of the photos' bytes. A shard
appears whole, is never changed, and is named by the SHA-256 of its own bytes: killed processes leave nothing half done,
runs that fill one folder at once cannot harm each other, and a damaged shard is seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features

from gendercls.errors import GenderclsError, InterruptedRunError, OutputError, PhotoError, UsageError
from gendercls.images import to_array
from gendercls.machine import available_cores
from gendercls.train.augment import decode_for_views
from gendercls.train.recipe import Recipe
from gendercls.train.workers import worker_pool
from gendercls.wholefile import mode_of_new, open_private, publish

Form = Literal["views", "evaluation"]
"""``views``: the image that a random view is made of; ``evaluation``: the pixels that the model is shown."""

_FORMAT = 1  # of a shard, and of the pixels that gendercls decodes
_INDEX = np.dtype([("digest", "V32"), ("offset", "<i8"), ("height", "<i4"), ("width", "<i4")])
_SUFFIX = ".photos"
_LARGEST_SHARD = 2048  # photos; what a killed process has to decode again
_LEFT_OVER = 3600.0  # seconds after which an unfinished shard, written in minutes, is that of a killed process


class CachedPhotos:
    """Pixels of N photos in memory-mapped files, opened in each process by itself."""

    def __init__(self, shards: Sequence[Path], shard_of: NDArray[np.int32], places: NDArray[np.void]) -> None:
        """shards: files; shard_of ``[N]``: which one has a photo; places ``[N]``: its entry in that one's index."""
        self.shards = shards
        self.shard_of = shard_of
        self.places = places
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_maps": {}}

    def share(self, rank: int, world: int) -> CachedPhotos:
        """Every ``world``-th photo, from number ``rank``."""
        return CachedPhotos(self.shards, self.shard_of[rank::world], self.places[rank::world])

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """A photo as uint8 ``[H, W, 3]``, without a copy; the files do not change when it is written to."""
        shard = int(self.shard_of[number])
        if shard not in self._maps:
            path = self.shards[shard]
            # Keeps no file open, unlike numpy.memmap: a process may have a thousand files, a cache more shards.
            mapped = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
            self._maps[shard] = mapped.numpy()
        _, offset, height, width = self.places[number].item()
        return self._maps[shard][offset : offset + height * width * 3].reshape(height, width, 3)


def check_cache_folder(folder: Path, data: Iterable[Path]) -> None:
    """Raises UsageError where the cache would lie in one of the data's folders."""
    for photos in data:
        if folder.resolve().is_relative_to(photos.resolve()):
            raise UsageError(
                "the cache would lie within the data",
                where=f"--cache {folder}, in {photos}",
                do="name a folder elsewhere",
            )


def fill_cache(
    folder: Path,
    paths: Sequence[Path],
    digests: Sequence[str],
    recipe: Recipe,
    form: Form,
    report: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Decode the photos that the cache lacks, on all cores. Shards that were damaged are named and made anew.

    Args: paths ``[N]``; digests ``[N]``: SHA-256 of each photo's bytes, as hex; stop: asked before each shard.

    Raises:
        OutputError: the disk is too full, or the folder cannot be written.
        PhotoError: a photo is not the one whose digest was given.
        InterruptedRunError: ``stop`` said so; what is filled is kept.
    """
    home = _home(folder, recipe, form)
    try:
        home.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(home)
        known = _check_shards(home, report)
    except OSError as error:
        raise _unwritable(home, error) from None
    missing = list({digest: path for path, digest in zip(paths, digests, strict=True) if digest not in known}.items())
    if not missing:
        return
    needed = _estimate(missing, recipe, form)
    _check_disk(home, needed)
    report(f"caching {len(missing):,} decoded photos, about {_readable(needed)}, in {home}")
    _write_shards(home, missing, recipe, form, needed, report, stop)


def open_cache(folder: Path, digests: Sequence[str], recipe: Recipe, form: Form) -> CachedPhotos:
    """The photos of those digests, which `fill_cache` has put there. Raises OutputError where one is not there."""
    home = _home(folder, recipe, form)
    shards = _shards(home)
    try:
        indexes = [_read_index(shard) for shard in shards]
    except (OSError, ValueError) as error:
        raise _not_as_filled(home) from error
    entries = np.concatenate(indexes) if indexes else np.empty(0, _INDEX)
    shard_of = np.repeat(np.arange(len(shards), dtype=np.int32), [len(index) for index in indexes])
    row_of = {digest: row for row, digest in enumerate(_hex(entries))}
    try:
        rows = np.array([row_of[digest] for digest in digests], np.int64)
    except KeyError:
        raise _not_as_filled(home) from None
    return CachedPhotos(shards, shard_of[rows], entries[rows])


def decoded(data: bytes, name: str, recipe: Recipe, form: Form) -> NDArray[np.uint8]:
    """A photo's file in that form: uint8 ``[H, W, 3]``. Raises as `gendercls.images.decode` does."""
    if form == "views":
        return np.asarray(decode_for_views(data, recipe.size, name=name))
    return to_array(data, recipe.preprocessing(), name=name)


def _home(folder: Path, recipe: Recipe, form: Form) -> Path:
    """Where photos of that form lie: apart for all that changes a pixel, the decoders' versions among it."""
    decoders = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "webp", "avif", "zlib", "libtiff")}
    settings: dict[str, object] = {"format": _FORMAT, "form": form, "size": recipe.size}
    settings |= {"pillow": PIL.__version__, "decoders": decoders}
    if form == "evaluation":
        settings |= {"fit": recipe.fit, "resampling": recipe.resampling}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return folder / f"{form}-{recipe.size}-{digest[:12]}"


def _shards(home: Path) -> list[Path]:
    return sorted(home.glob(f"*{_SUFFIX}"))


def _remove_leftovers(home: Path) -> None:
    for path in home.glob(".*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _LEFT_OVER:
                path.unlink()
        except FileNotFoundError:  # another run took it away, or finished it
            continue


def _check_shards(home: Path, report: Callable[[str], None]) -> set[str]:
    """The digests of all photos in whole shards; the others are named and removed."""
    shards = _shards(home)
    known: set[str] = set()
    with ThreadPoolExecutor(available_cores()) as pool:
        for shard, is_whole in zip(shards, pool.map(_is_whole, shards), strict=True):
            if is_whole:
                known.update(_hex(_read_index(shard)))
            else:
                report(f"a damaged file of the cache is made anew: {shard}")
                shard.unlink(missing_ok=True)
    return known


def _is_whole(shard: Path) -> bool:
    with shard.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.stem


def _estimate(missing: Sequence[tuple[str, Path]], recipe: Recipe, form: Form) -> int:
    """Bytes that the photos will take, from a few of them."""
    few = missing[:: max(1, len(missing) // 32)]
    return sum(_pixels_of(photo, recipe, form).nbytes for photo in few) * len(missing) // len(few)


def _check_disk(home: Path, needed: int) -> None:
    free = shutil.disk_usage(home).free
    if free < needed * 1.05:  # the estimate is one
        raise OutputError(
            f"the cache needs about {_readable(needed)} and {_readable(free)} are free",
            where=str(home),
            do="free some disk, name a folder on another one, or leave --cache out: photos are then decoded each time",
        )


def _write_shards(
    home: Path,
    missing: Sequence[tuple[str, Path]],
    recipe: Recipe,
    form: Form,
    needed: int,
    report: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    length = min(_LARGEST_SHARD, -(-len(missing) // (4 * available_cores())))
    chunks = [missing[start : start + length] for start in range(0, len(missing), length)]
    done = told = 0
    with worker_pool() as pool:
        try:
            for count in _written(pool, partial(_write_shard, home, recipe=recipe, form=form), chunks, stop):
                done += count
                if done - told >= max(len(missing) / 10, _LARGEST_SHARD):
                    told = done
                    report(f"cached {done:,} of {len(missing):,} photos")
        except OSError as error:
            raise _unwritable(home, error, f"; it needs about {_readable(needed)} in all") from None
        except BrokenProcessPool:
            raise GenderclsError(
                "a process that decoded photos was ended from outside",
                where=str(home),
                do="see that there is memory enough, and repeat the command: what is cached is kept",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    if done < len(missing):
        raise InterruptedRunError(
            f"interrupted while photos were cached; {done:,} of {len(missing):,} are kept",
            where=str(home),
            do="repeat the command to continue",
        )


def _written(
    pool: ProcessPoolExecutor,
    write: Callable[[Sequence[tuple[str, Path]]], int],
    chunks: Iterable[Sequence[tuple[str, Path]]],
    stop: Callable[[], bool],
) -> Iterator[int]:
    """The number of photos of each shard, as they are done. Asked to stop, those that are begun are the last."""
    running: set[Future[int]] = set()
    for chunk in chunks:
        if stop():
            break
        running.add(pool.submit(write, chunk))
        if len(running) == 2 * available_cores():  # no core waits for its next one, and a stop waits for few
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (task.result() for task in ended)
    yield from (task.result() for task in as_completed(running))


def _write_shard(home: Path, photos: Sequence[tuple[str, Path]], recipe: Recipe, form: Form) -> int:
    """Write these photos, given by digest and path, into a shard of their own. Returns their number."""
    temporary = home / f".{uuid.uuid4().hex}.tmp"
    try:
        mode = mode_of_new(temporary)
        with open_private(temporary) as file:
            digest = _write_photos(file, photos, recipe, form)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, home / f"{digest}{_SUFFIX}", mode)
    finally:
        temporary.unlink(missing_ok=True)
    return len(photos)


def _write_photos(file: BinaryIO, photos: Sequence[tuple[str, Path]], recipe: Recipe, form: Form) -> str:
    """Pixels, index, and in the last 8 bytes where the index begins. Returns the SHA-256 of it all, as hex."""
    whole = hashlib.sha256()
    index = np.empty(len(photos), _INDEX)
    offset = 0
    for row, photo in enumerate(photos):
        pixels = _pixels_of(photo, recipe, form)
        index[row] = (bytes.fromhex(photo[0]), offset, *pixels.shape[:2])
        data = pixels.tobytes()
        whole.update(data)
        file.write(data)
        offset += len(data)
    tail = index.tobytes() + offset.to_bytes(8, "little")
    whole.update(tail)
    file.write(tail)
    return whole.hexdigest()


def _read_index(shard: Path) -> NDArray[np.void]:
    """Entries of `_INDEX`. Raises OSError or ValueError for a file that is no shard."""
    with shard.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        file.seek(int.from_bytes(file.read(8), "little"))
        return np.frombuffer(file.read()[:-8], _INDEX)


def _pixels_of(photo: tuple[str, Path], recipe: Recipe, form: Form) -> NDArray[np.uint8]:
    digest, path = photo
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _changed(path, error.strerror or str(error)) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise _changed(path, "it has other bytes")
    return decoded(data, path.name, recipe, form)


def _hex(entries: NDArray[np.void]) -> list[str]:
    return [digest.hex() for digest in entries["digest"].tolist()]


def _changed(path: Path, how: str) -> PhotoError:
    return PhotoError(
        f"a photo has changed since it was checked: {how}",
        where=str(path),
        do="repeat the command, which checks all photos anew",
    )


def _unwritable(home: Path, error: OSError, more: str = "") -> OutputError:
    return OutputError(
        f"the cache cannot be written: {error.strerror or error}{more}",
        where=str(home),
        do="free some disk or name another folder with --cache, and repeat the command: what is cached is kept",
    )


def _not_as_filled(home: Path) -> OutputError:
    return OutputError(
        "the cache has changed since it was filled",
        where=str(home),
        do="see that nothing else works in this folder, and repeat the command",
    )


def _readable(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
