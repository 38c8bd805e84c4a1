"""A store on this machine that has faults: moto's S3, and a proxy before it that is slow, refuses or cuts short."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
FAULTS = ("slow down", "broken", "refused", "reset", "ends early", "too short", "trickles", "hangs")
HERE = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def head(self, length: int) -> bytes:
        kept = [f"{name}: {value}" for name, value in self.headers if name.lower() not in DROPPED]
        lines = [f"HTTP/1.1 {self.status} {http.client.responses[self.status]}", *kept, f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""]).encode()


DROPPED = ("content-length", "connection", "transfer-encoding", "server", "date")


@dataclass
class FaultStore:
    """What stands before a server of this machine, as a context that has a thread.

    port: the server's. fault: one of `FAULTS`; none for "". share: of the requests that have it, drawn by chance. only:
    a part of the address that those have. latency: seconds before each answer. keeps: whether answers to GET are kept,
    so that the server itself costs nothing from the second time on. caused: how often the fault was.
    """

    port: int
    fault: str = ""
    share: float = 1.0
    only: str = ""
    latency: float = 0.0
    keeps: bool = False
    seed: int = 1
    caused: int = 0
    requests: int = 0
    own_port: int = field(default=0, init=False)
    _kept: dict[tuple[str, str], Answer] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.own_port}"

    def __enter__(self) -> FaultStore:
        self._chance = random.Random(self.seed)  # noqa: S311 - faults, no secrets
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        self._is_up.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, HERE, 0, backlog=256)
        self.own_port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._end.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # what hangs still
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(method, target, headers, body, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; whether the connection goes on."""
        self.requests += 1
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = self.fault if self.only in target and self._chance.random() < self.share else ""
        self.caused += fault != ""
        if fault == "hangs":
            await asyncio.sleep(3600)
        if fault == "refused":
            writer.transport.abort()
            return False
        answer = await self._forward(method, target, headers, body)
        if fault == "slow down":
            answer = Answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
        elif fault == "broken":
            answer = Answer(500, [("Content-Type", "application/xml")], BROKEN)
        return await self._send(answer, fault, writer, is_head=method == "HEAD")

    async def _send(self, answer: Answer, fault: str, writer: asyncio.StreamWriter, *, is_head: bool) -> bool:
        body, half = answer.body, answer.body[: len(answer.body) // 2]
        if is_head:
            length = next((int(value) for name, value in answer.headers if name.lower() == "content-length"), 0)
            writer.write(answer.head(length))
        elif fault == "too short":
            writer.write(answer.head(len(half)) + half)
        elif fault in ("reset", "ends early"):
            writer.write(answer.head(len(body)) + half)
            await writer.drain()
            if fault == "reset":
                # What is in the buffers is thrown away with the connection.
                await asyncio.sleep(0.02)
                writer.transport.abort()
            return False
        elif fault == "trickles":
            writer.write(answer.head(len(body)))
            for place in range(len(body)):
                writer.write(body[place : place + 1])
                await writer.drain()
                await asyncio.sleep(0.5)
        else:
            writer.write(answer.head(len(body)) + body)
        await writer.drain()
        return True

    async def _forward(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        name = (target, headers.get("range", ""))
        if method == "GET" and name in self._kept:
            return self._kept[name]
        answer = await asyncio.to_thread(self._ask, method, target, headers, body)
        if self.keeps and method == "GET":
            self._kept[name] = answer
        return answer

    def _ask(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(HERE, self.port, timeout=60)
        try:
            connection.request(method, target, body or None, headers)
            found = connection.getresponse()
            return Answer(found.status, found.getheaders(), found.read())
        finally:
            connection.close()


@contextmanager
def moto(page: int = 1000) -> Iterator[int]:
    """moto's S3 in a process of its own, which lists so many objects a page; gives its port."""
    with socket.socket() as free:
        free.bind((HERE, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", HERE, "-p", str(port)]
    env = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(page)}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port)
            yield port
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((HERE, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def environment(url: str) -> dict[str, str]:
    """This process's, with a store at that address for whoever asks for S3."""
    own = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    return {**os.environ, **own, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


def client(url: str) -> Any:
    """boto3's, to fill the store."""
    import boto3

    who = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **who)
