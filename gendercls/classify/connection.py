"""The Ray cluster that ``--ray`` works on: found, joined or made, and kept quiet."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gendercls.errors import GenderclsError, UsageError, one_line

_PRIVATE = ("worker", "ray_constants", "utils")
"""Modules of Ray in which lies what it has no option or function for."""

_REACH = 10.0
"""Seconds for a cluster to answer."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within it there is a Ray cluster.

    address: as `ray.init` takes it. Empty for the cluster that ``RAY_ADDRESS`` names or this machine belongs to; where
    there is none, one is made of this machine's cores.

    Raises:
        GenderclsError: Ray is not installed, or the cluster cannot be reached.
        UsageError: a ``ray://`` address, from which no answers come back one by one.
    """
    ray = ray_module()
    if "://" in (address or os.environ.get("RAY_ADDRESS", "")):
        raise UsageError(
            "the command has to run on a machine of the cluster",
            where=f"--ray {address or os.environ['RAY_ADDRESS']}",
            do="run it there, as with: ray job submit -- gendercls classify … --ray",
        )
    if address and os.path.exists(address):
        raise UsageError("--ray takes the word after it for an address", where=f"--ray {address}", do="type it last")
    if ray.is_initialized():  # by a program, which goes on with it
        yield
        return
    with _own_signals():
        _connect(ray, address)
    try:
        yield
    finally:
        ray.shutdown()


def ray_module() -> Any:
    """Ray itself. Raises GenderclsError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read as it is imported
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise GenderclsError(
            "--ray needs a library that is not installed", where="ray", do="pip install 'gendercls[ray]'"
        ) from None


def _connect(ray: Any, address: str) -> None:
    settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    private: dict[str, Any] = {name: importlib.import_module(f"ray._private.{name}") for name in _PRIVATE}
    private["worker"]._worker_logs_enabled = False  # nothing else keeps what raylets say of dead workers off stdout
    address = address or os.environ.get("RAY_ADDRESS", "") or _running_here(private["utils"])
    try:
        if address == "local":
            # Its ports are for this machine alone. Only so does Ray take 127.0.0.1 for an address.
            private["ray_constants"].ENABLE_RAY_CLUSTER = False
        elif ":" in address:
            _reach(address)
        ray.init(address=address, **settings)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise GenderclsError(
            f"there is no Ray cluster to work on: {why}",
            where=f"--ray {address}",
            do="check the address, as ray status shows it, and that Ray has the same version everywhere",
        ) from None


def _running_here(utils: Any) -> str:
    """The cluster that ``ray start`` made this machine part of, if it still runs; else one has to be made."""
    address: str = utils.read_ray_address() or ""
    try:
        if address:
            _reach(address)
    except OSError:
        address = ""
    return address or "local"


def _reach(address: str) -> None:
    """Raises OSError where nothing answers there. Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
