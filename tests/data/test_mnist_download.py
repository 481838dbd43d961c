"""Download of MNIST: servers that do not answer, broken connections, and damaged files."""

import gzip
import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from pairs_lit.data.sources import SourceName, load_source
from pairs_lit.errors import PairsLitError
from tests.support.mnist_files import (
    FILES,
    TEST,
    TRAIN,
    check_rejected,
    empty_file,
    fail_if_called,
    get_raw_folder,
    list_files,
    truncate,
    write_html,
    write_idx,
    write_mnist,
)

Answer = Callable[[socket.socket], None]


def test_mnist_without_network_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_rejected(
        tmp_path, r"MNIST is not in .*MNIST/raw and its servers do not answer\. Set data\.root .*PAIRS_LIT_DATA"
    )
    assert capsys.readouterr().err == ""


class Server:
    """Server that calls a function with the socket of each connection, which stays open for at most 12 seconds."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def _serve(self) -> None:
        opened: list[tuple[float, socket.socket]] = []
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                opened = [entry for entry in opened if not self._closed_if_old(*entry)]
                continue
            connection.settimeout(5)
            self._answer(connection)
            opened.append((time.monotonic(), connection))
        for _, connection in opened:
            connection.close()

    def _closed_if_old(self, since: float, connection: socket.socket) -> bool:
        is_old = time.monotonic() - since > 12
        if is_old:
            connection.close()
        return is_old

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Server]]:
    """Start a server and make it MNIST's only mirror."""
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        monkeypatch.setattr(MNIST, "mirrors", [servers[-1].url])
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def send_nothing(connection: socket.socket) -> None:
    """Accept the connection and never answer, like a firewall that drops packets."""


def send_nonsense(connection: socket.socket) -> None:
    connection.recv(10000)
    connection.sendall(b"220 this is no web server\r\n")
    connection.shutdown(socket.SHUT_WR)


def hang_up(connection: socket.socket) -> None:
    connection.recv(10000)
    connection.shutdown(socket.SHUT_WR)


def build_response(header: bytes, body: bytes, *, finish: bool = True) -> Answer:
    def answer(connection: socket.socket) -> None:
        head = connection.recv(10000).startswith(b"HEAD")
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n" + (b"" if head else body))
        if head or finish:
            connection.shutdown(socket.SHUT_WR)

    return answer


@pytest.mark.slow
def test_a_firewall_that_drops_packets_is_noticed_in_time(
    tmp_path: Path, serve: Callable[[Answer], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(send_nothing)
    start = time.monotonic()
    assert load_source("auto", tmp_path, allow_unverified=False).name == "digits"
    assert time.monotonic() - start < 10
    assert "WARNING" in capsys.readouterr().err


def test_a_name_lookup_that_hangs_is_noticed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def lookup(*_: object, **__: object) -> NoReturn:
        over.wait(60)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(MNIST, "mirrors", ["http://mnist.invalid/"])
    monkeypatch.setattr("socket.getaddrinfo", lookup)
    monkeypatch.setattr("pairs_lit.data.mnist.PROBE_SECONDS", 1.0)  # the test above uses the real timeout
    start = time.monotonic()
    try:
        check_rejected(tmp_path, "its servers do not answer")
    finally:
        over.set()
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("answer", [send_nonsense, hang_up])
def test_a_server_that_does_not_speak_http_is_ignored(
    tmp_path: Path, serve: Callable[[Answer], Server], answer: Answer
) -> None:
    serve(answer)
    check_rejected(tmp_path, "its servers do not answer")


def test_one_mirror_that_answers_is_enough(
    tmp_path: Path, serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serve(build_response(b"Content-Length: 500", b"abc")).url
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", good])
    check_rejected(tmp_path, "could not be downloaded")


def test_a_refused_connection_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    start = time.monotonic()
    check_rejected(tmp_path, "its servers do not answer")
    assert time.monotonic() - start < 2


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a folder with four small packed files as MNIST's only mirror."""
    unpacked = get_raw_folder(write_mnist(tmp_path / "original", TRAIN, TEST))
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((unpacked / name).read_bytes(), mtime=0))
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(folder.iterdir())]
    handler = partial(Silent, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", sums)
        yield folder
        server.shutdown()
        thread.join()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_download_leaves_only_the_four_files_under_root(
    tmp_path: Path, mirror: Path, name: SourceName, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "root"
    source = load_source(name, root, allow_unverified=True)
    assert source.name == "mnist (unverified)"
    assert f"downloading MNIST to {root}" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == [".lock", "MNIST"]
    assert sorted(path.name for path in list_files(root)) == sorted(FILES)
    for file in FILES:
        assert (get_raw_folder(root) / file).read_bytes() == (get_raw_folder(tmp_path / "original") / file).read_bytes()
    assert len(source.train.labels) == TRAIN


def test_a_download_happens_once(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_source("mnist", tmp_path / "root", allow_unverified=True)
    monkeypatch.setattr("pairs_lit.data.mnist._is_reachable", fail_if_called)
    load_source("mnist", tmp_path / "root", allow_unverified=True)


def test_a_download_adds_missing_files_and_replaces_none(tmp_path: Path, mirror: Path) -> None:
    root = write_mnist(tmp_path / "root", TRAIN, TEST)
    existing = get_raw_folder(root) / "train-labels-idx1-ubyte"
    write_idx(existing, np.zeros(TRAIN))
    before = existing.read_bytes()
    (get_raw_folder(root) / "t10k-labels-idx1-ubyte").unlink()
    load_source("mnist", root, allow_unverified=True)
    assert existing.read_bytes() == before
    assert (get_raw_folder(root) / "t10k-labels-idx1-ubyte").is_file()


def test_a_download_removes_files_of_a_killed_one(tmp_path: Path, mirror: Path) -> None:
    leftover = tmp_path / "root" / ".download" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half of it")
    load_source("mnist", tmp_path / "root", allow_unverified=True)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".lock", "MNIST"]


def test_simultaneous_downloads_fetch_each_file_once(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    def count(handler: Silent) -> None:
        requests.append(handler.path)
        SimpleHTTPRequestHandler.do_GET(handler)

    monkeypatch.setattr(Silent, "do_GET", count)
    load_source("mnist", tmp_path / "alone", allow_unverified=True)
    alone = list(requests)
    with ThreadPoolExecutor(4) as pool:
        sources = list(pool.map(lambda _: load_source("mnist", tmp_path / "root", allow_unverified=True), range(4)))
    assert all(torch.equal(source.train.images, sources[0].train.images) for source in sources)
    assert sorted(requests) == sorted([*alone, *alone])


def test_downloaded_files_are_verified(tmp_path: Path, mirror: Path) -> None:
    check_rejected(tmp_path / "root", "is not MNIST's file", allow_unverified=False)


def test_a_download_restores_the_default_timeout(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = socket.getdefaulttimeout()
    load_source("mnist", tmp_path / "root", allow_unverified=True)
    empty_file(mirror / "t10k-labels-idx1-ubyte.gz")
    check_rejected(tmp_path / "other", "could not be downloaded")
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize("damage", [empty_file, truncate, write_html])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"])
def test_a_download_that_fails_midway_leaves_no_file(
    tmp_path: Path, mirror: Path, damage: Callable[[Path], None], file: str
) -> None:
    damage(mirror / file)
    check_rejected(tmp_path / "root", r"(?s)MNIST could not be downloaded to .*root .*set data\.source to digits")
    assert list_files(tmp_path / "root") == []
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".lock", "MNIST"]


def test_the_error_of_a_failed_download_is_one_line(tmp_path: Path, mirror: Path) -> None:
    truncate(mirror / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(PairsLitError) as caught:
        load_source("mnist", tmp_path / "root", allow_unverified=True)
    assert "\n" not in str(caught.value)


def test_auto_falls_back_with_a_warning_if_a_download_fails_midway(
    tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(mirror / "t10k-images-idx3-ubyte.gz")
    assert load_source("auto", tmp_path / "root", allow_unverified=True).name == "digits"
    assert "could not be downloaded" in capsys.readouterr().err
    assert list_files(tmp_path / "root") == []


@pytest.mark.parametrize(
    "answer",
    [
        build_response(b"Content-Length: 500", b"abc"),
        build_response(b"Transfer-Encoding: chunked", b"fff\r\nabc"),
        build_response(b"Content-Length: 500", b"abc", finish=False),
    ],
    ids=["cut", "chunks cut", "stalled"],
)
def test_a_broken_connection_gives_a_one_line_error_and_leaves_no_file(
    tmp_path: Path, serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr("pairs_lit.data.download.STALL_SECONDS", 0.5)
    serve(answer)
    start = time.monotonic()
    check_rejected(tmp_path, "MNIST could not be downloaded")
    assert time.monotonic() - start < 5
    assert list_files(tmp_path) == []
    assert socket.getdefaulttimeout() is None


def test_a_root_that_cannot_be_written_is_an_error(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "file").write_text("")
    check_rejected(tmp_path / "file", "MNIST could not be downloaded to .*file")
