"""Requests to a store that fsspec reaches: each with a limit of time, and made again where a failure may pass.

A store's library makes its own second tries. It may: what they take counts in the limit of ours.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from gendercls.errors import GenderclsError, one_line

T = TypeVar("T")

READERS = 32
"""Requests at a time: a store answers each after some 30 ms, so this gives some thousand photos a second."""

ATTEMPT = 15.0
"""Seconds after which one try is given up, beside those that its bytes take on a slow line."""

PATIENCE = 30.0
"""Seconds after which no further try is begun."""

AT_FIRST = 5.0
"""The same before anything has been done: whoever typed a wrong address is told soon."""

_SLOW_LINE = 640_000
"""Bytes a second, 5 Mbit/s, for all requests at a time together; a slower store is taken to hang."""

_WAITS = 0.25, 8.0
"""Seconds before the second try, doubled before each further one, and the most."""

_OPTIONS: dict[str, dict[str, Any]] = {
    scheme: {"config_kwargs": {"max_pool_connections": 2 * READERS}} for scheme in ("s3", "s3a")
}
_LIBRARIES = ("asyncio", "aiobotocore", "botocore", "fsspec", "gcsfs", "s3fs")

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ValueError)
"""What no second try mends; beside these errors with one of the next numbers, and answers 400 to 499 but three."""
_FINAL_NUMBERS = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, getattr(errno, "EREMCHG", -1)}
_PASSING_ANSWERS = {408, 425, 429}

# By name, since a store's library is loaded only where it is used.
_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError", "SSOTokenLoadError"),
    *("UnauthorizedSSOTokenError", "DefaultCredentialsError", "RefreshError"),
}
_BAD_CREDENTIALS = {
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("RequestTimeTooSkewed", "NotSignedUp", "AccountProblem"),
}

_creation = Lock()


class GaveUpError(OSError):
    """A request that failed in ways which may pass, until patience ended."""


def names_version(url: str) -> bool:
    """Whether s3fs would take the end of an address for a version's name, and read another object than is meant."""
    return "?versionId=" in url and scheme_of(url) in ("s3", "s3a")


def scheme_of(url: str) -> str:
    """``s3`` of ``s3://bucket/photos``."""
    return url.partition("://")[0]


def opened(url: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it. Raises GenderclsError where it cannot be had."""
    with _creation:  # many threads may be the first
        system = _file_system(scheme_of(url))
    return system, str(system._strip_protocol(url))


def asked(url: str, method: str, *, seconds: float = ATTEMPT, **named: Any) -> Any:
    """What a method of fsspec's file system gives for an address. One try."""
    system, path = opened(url)
    try:
        return called(system, method, path, seconds=seconds, **named)
    except FileNotFoundError as error:
        # Of pages on the web fsspec says so whatever went wrong.
        cause = error.__cause__
        if scheme_of(url) in ("http", "https") and cause is not None and _answer_of(cause) not in (404, 410):
            raise cause from None
        raise


def called(system: Any, method: str, *arguments: Any, seconds: float = ATTEMPT, **named: Any) -> Any:
    """What a file system's method gives; given up after these seconds, where the store's library can be told to."""
    if not system.async_impl:
        return getattr(system, method)(*arguments, **named)
    from fsspec.asyn import sync

    try:
        return sync(system.loop, getattr(system, f"_{method}"), *arguments, timeout=seconds, **named)
    except TimeoutError as error:
        raise TimeoutError(one_line(error) if str(error) else f"no answer within {seconds:.0f} s") from None


def seconds_for(size: int, at_a_time: int) -> float:
    """How long one try to read that many bytes may take while so many requests share the line."""
    return ATTEMPT + size * at_a_time / _SLOW_LINE


def patiently(url: str, request: Callable[[], T], patience: float = PATIENCE) -> T:
    """What a request to a store gives, made again where a failure may pass.

    Raises:
        OSError: it cannot be had, of the kind that says why; `GaveUpError` where that may pass.
        GenderclsError: the credentials are missing or no longer good, so that all other requests fail too; or as the
            request itself raises it.
    """
    end = time.monotonic() + patience
    for number in count():
        try:
            return request()
        except GenderclsError:
            raise
        except Exception as error:  # each store has its own kinds
            if _is_about_credentials(error):
                raise unreachable(url, error) from error
            if not _may_pass(error):
                raise error if isinstance(error, OSError) else OSError(one_line(error)) from error
            first, most = _WAITS
            # By chance, so that many readers which failed at once do not come back at once.
            wait = min(first * 2**number, most) * random.uniform(0.5, 1.0)  # noqa: S311
            if time.monotonic() + wait > end:
                raise GaveUpError(one_line(error)) from error
        time.sleep(wait)
    raise AssertionError


def answers(url: str) -> bool:
    """Whether the store of that address answers anything, be it that it refuses."""
    path = opened(url)[1]
    root = url if "://" in path else f"{scheme_of(url)}://{path.lstrip('/').partition('/')[0]}"
    try:
        asked(root, "info", seconds=AT_FIRST)
    except Exception as error:  # as in `patiently`
        return not _may_pass(error)
    return True


def unreachable(url: str, error: BaseException) -> GenderclsError:
    """What ends a run: the store of that address does not answer, or not to whoever asks."""
    if _is_about_credentials(error):
        return GenderclsError(
            f"the store does not accept who is asking: {one_line(error)}",
            where=url,
            do="give the credentials that the store's own tools use, and repeat the command; "
            "for a public bucket on S3 set FSSPEC_S3_ANON=true",
        )
    return GenderclsError(
        f"the store does not answer as it should: {one_line(error)}",
        where=url,
        do="check the address, the network and your rights there, and repeat the command",
    )


@lru_cache(maxsize=8)
def _file_system(scheme: str) -> Any:
    for name in _LIBRARIES:  # what they say of failures that were dealt with would be printed
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        import fsspec

        # What is there is asked anew each time: a listing that is kept takes memory and grows old.
        return fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError as error:
        raise GenderclsError(
            f"{scheme}:// needs a library that is not installed: {one_line(error)}",
            where=f"{scheme}://",
            do="pip install 'gendercls[remote]', or for other stores what fsspec names",
        ) from None
    except (ValueError, TypeError) as error:  # unknown to fsspec, or in need of a host's name
        raise GenderclsError(
            f"no store is reached by {scheme}://: {one_line(error)}",
            where=f"{scheme}://",
            do="use one that fsspec opens without more words, such as s3:// or gs://",
        ) from None
    except Exception as error:  # of the store's own kinds, about credentials or a setting
        raise unreachable(f"{scheme}://", error) from None


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, _FINAL) or getattr(error, "errno", None) in _FINAL_NUMBERS:
        return False
    if type(error).__name__ == "ParamValidationError" or str(error).startswith("Forbidden: "):  # botocore's and gcsfs'
        return False
    answer = _answer_of(error)
    return not 400 <= answer < 500 or answer in _PASSING_ANSWERS


def _answer_of(error: BaseException) -> int:
    """The HTTP status that an error carries; 0 for none."""
    for name in ("status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
    return 0


def _is_about_credentials(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return type(error).__name__ in _NO_CREDENTIALS or code in _BAD_CREDENTIALS
