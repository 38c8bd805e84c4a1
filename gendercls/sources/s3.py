"""S3's objects by obstore, for which a request is a sixth of the work that it is for s3fs.

It takes credentials, endpoint and region from s3fs. Whatever it cannot read is left to s3fs, which knows more of S3
(other regions, whoever pays for requests), and says what is wrong in its own words.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil, log
from threading import Lock
from typing import TYPE_CHECKING, Any

from gendercls.sources.reach import ATTEMPT, opened, scheme_of

if TYPE_CHECKING:
    from obstore.store import S3Credential

_VALID = timedelta(minutes=10)
"""How long credentials can be used at least: botocore renews them that long before they expire."""

_MOST_LEFT_OUT = 1024
"""Requests left to s3fs, at most, after failures in a row, before obstore is tried again."""

_creation = Lock()


class Bucket:
    """A bucket of which ranges of objects are read. client: botocore's. limit: seconds that a request may take."""

    def __init__(self, client: Any, loop: Any, name: str, limit: float) -> None:
        from botocore import UNSIGNED
        from obstore.store import S3Store

        self._client = client
        self._loop = loop
        self._failures = self._left_out = 0
        endpoint = client.meta.endpoint_url
        is_anonymous = client.meta.config.signature_version is UNSIGNED
        self._store = S3Store(
            name,
            endpoint=endpoint,
            region=client.meta.region_name or "us-east-1",
            skip_signature=is_anonymous,
            credential_provider=None if is_anonymous else self._credentials,
            client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=limit)},
            retry_config={"max_retries": 0},
        )

    def read(self, key: str, begin: int, end: int) -> bytes | None:
        """An object's bytes from begin to before end, fewer where it ends earlier. One try; None where it failed."""
        import obstore

        if self._left_out > 0:
            self._left_out -= 1
            return None
        try:
            data = bytes(obstore.get_range(self._store, key, start=begin, end=end))
        except Exception:  # of whatever kind: s3fs is asked, and says why
            self._failures += 1
            self._left_out = min(2**self._failures, _MOST_LEFT_OUT)
            return None
        self._failures = 0
        return data

    def _credentials(self) -> S3Credential:
        from fsspec.asyn import sync

        expires_at = datetime.now(UTC) + _VALID
        held = sync(self._loop, self._client._get_credentials().get_frozen_credentials)
        return {
            "access_key_id": held.access_key,
            "secret_access_key": held.secret_key,
            "token": held.token,
            "expires_at": expires_at,
        }


def read_range(url: str, begin: int, end: int, seconds: float) -> bytes | None:
    """One try to read an object's bytes from begin to before end, fewer where it ends earlier; None where it failed.

    seconds: that the try may take, about.
    """
    scheme = scheme_of(url)
    if scheme not in ("s3", "s3a"):
        return None
    system, path = opened(url)
    name, _, key = path.partition("/")
    if key.startswith("/"):  # which obstore leaves out, and would read another object
        return None
    # A limit has connections of its own, so there are few: with 1, 4, 16, … seconds beside those of any try.
    limit = ATTEMPT + 4.0 ** ceil(log(max(seconds - ATTEMPT, 1.0), 4.0))
    with _creation:  # many threads may be the first
        bucket = _bucket(system, name, limit)
    return None if bucket is None else bucket.read(key, begin, end)


@lru_cache(maxsize=64)
def _bucket(system: Any, name: str, limit: float) -> Bucket | None:
    """The bucket; None where obstore is not installed, or s3fs has settings that are not passed on."""
    try:
        if system.req_kw or system.s3_additional_kwargs:
            return None
        return Bucket(system.s3, system.loop, name, limit)
    except Exception:  # as above
        return None
