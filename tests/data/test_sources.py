import gzip
import hashlib
import http.server
import os
import shutil
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from pairs_lit.data.labelled_images import Digits
from pairs_lit.data.mnist import MNIST_SHA256
from pairs_lit.data.sources import SourceName, load_source
from pairs_lit.errors import PairsLitError
from tests.conftest import write_idx, write_mnist

TRAIN, TEST = 40, 20
FILES = tuple(MNIST_SHA256)
Answer = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def _no_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here ever asks the real servers."""
    monkeypatch.setattr(MNIST, "mirrors", [])
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mnist(tmp_path, TRAIN, TEST)


def raw(root: Path) -> Path:
    return root / "MNIST" / "raw"


def images_in(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)


def labels_in(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=8)


def files_under(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]


def refused(root: Path, message: str, name: SourceName = "mnist", *, allow_unverified: bool = True) -> None:
    with pytest.raises(PairsLitError, match=message):
        load_source(name, root, allow_unverified=allow_unverified)


# --- files in MNIST's format ---


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_files_are_read_as_they_were_written(root: Path, name: SourceName) -> None:
    source = load_source(name, root, allow_unverified=True)
    assert source.name == "mnist (unverified)"
    assert source.validation is None
    for digits, prefix, count in ((source.train, "train", TRAIN), (source.test, "t10k", TEST)):
        assert (digits.images.shape, digits.images.dtype) == ((count, 28, 28), torch.uint8)
        assert (digits.labels.shape, digits.labels.dtype) == ((count,), torch.int64)
        np.testing.assert_array_equal(digits.images.numpy(), images_in(raw(root) / f"{prefix}-images-idx3-ubyte"))
        np.testing.assert_array_equal(digits.labels.numpy(), labels_in(raw(root) / f"{prefix}-labels-idx1-ubyte"))


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_altered_files_are_refused_by_name(root: Path, name: SourceName) -> None:
    message = r"train-images-idx3-ubyte is not MNIST's file .* set data\.allow_unverified to true"
    refused(root, message, name, allow_unverified=False)


@pytest.mark.parametrize("altered", FILES)
def test_the_one_altered_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, altered: str) -> None:
    hashes = {name: hashlib.sha256((raw(root) / name).read_bytes()).hexdigest() for name in FILES}
    monkeypatch.setattr("pairs_lit.data.mnist.MNIST_SHA256", hashes)
    assert load_source("mnist", root, allow_unverified=False).name == "mnist"
    with (raw(root) / altered).open("ab") as file:
        file.write(b"\0")
    refused(root, rf"{altered} is not MNIST's file", allow_unverified=False)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:16])


def wrong_magic(path: Path) -> None:
    path.write_bytes(b"\x12\x34\x56\x78" + path.read_bytes()[4:])


def unknown_type(path: Path) -> None:
    path.write_bytes(b"\0\0\x0a" + path.read_bytes()[3:])


def signed_bytes(path: Path) -> None:
    path.write_bytes(b"\0\0\x09" + path.read_bytes()[3:])


def text(path: Path) -> None:
    path.write_text("<html>404 not found</html>")


def fewer(path: Path) -> None:
    write_idx(path, np.zeros((7, 28, 28)) if "images" in path.name else np.zeros(7))


def none(path: Path) -> None:
    write_idx(path, np.zeros((0, 28, 28)) if "images" in path.name else np.zeros(0))


def small(path: Path) -> None:
    write_idx(path, np.zeros((TRAIN if "train" in path.name else TEST, 14, 14)))


def other_dimensions(path: Path) -> None:
    write_idx(path, np.zeros((TRAIN, 28)))


def not_numbers(path: Path) -> None:
    count = TRAIN if "train" in path.name else TEST
    header = struct.pack(">HBB3I", 0, 0x0D, 3, count, 28, 28)  # 0x0D: float32
    path.write_bytes(header + np.full((count, 28, 28), np.nan, ">f4").tobytes())


def eleven_classes(path: Path) -> None:
    write_idx(path, np.arange(TRAIN if "train" in path.name else TEST) % 11)


FORMAT, APART, CLASSES = "ubyte is not in MNIST's format", "are needed for n labels", "0 … 9 are needed"


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("images-idx3", truncate, FORMAT),
        ("images-idx3", empty, FORMAT),
        ("images-idx3", only_header, FORMAT),
        ("images-idx3", wrong_magic, FORMAT),
        ("images-idx3", unknown_type, FORMAT),
        ("images-idx3", signed_bytes, FORMAT),
        ("images-idx3", text, FORMAT),
        ("images-idx3", not_numbers, FORMAT),
        ("images-idx3", none, FORMAT),
        ("images-idx3", other_dimensions, FORMAT),
        ("images-idx3", fewer, APART),
        ("images-idx3", small, APART),
        ("labels-idx1", truncate, FORMAT),
        ("labels-idx1", empty, FORMAT),
        ("labels-idx1", wrong_magic, FORMAT),
        ("labels-idx1", signed_bytes, FORMAT),
        ("labels-idx1", fewer, APART),
        ("labels-idx1", eleven_classes, CLASSES),
    ],
)
def test_damaged_files_are_an_error_even_if_unverified_ones_are_allowed(
    root: Path, name: SourceName, split: str, kind: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(raw(root) / f"{split}-{kind}-ubyte")
    refused(root, f"MNIST/raw.*{split}.*{message}", name)


def test_no_images_and_no_labels_are_an_error(root: Path) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        none(raw(root) / name)
    refused(root, f"{FORMAT}|{CLASSES}")


@settings(deadline=None, max_examples=40)
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_file_cut_off_anywhere_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    root = write_mnist(tmp_path_factory.mktemp("cut"), 4, 4)
    whole = (raw(root) / name).read_bytes()
    (raw(root) / name).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(root, "Replace the files|replace it")


@pytest.mark.parametrize("flipped", [1, 2, 4, 128])
@pytest.mark.parametrize("place", range(16))
def test_an_image_file_with_a_changed_header_is_an_error(tmp_path: Path, place: int, flipped: int) -> None:
    root = write_mnist(tmp_path, 4, 4)
    changed = bytearray((raw(root) / "train-images-idx3-ubyte").read_bytes())
    changed[place] ^= flipped
    (raw(root) / "train-images-idx3-ubyte").write_bytes(changed)
    refused(root, "Replace the files|replace it")


def test_torchvisions_old_cache_is_never_read_in_place_of_the_checked_files(root: Path) -> None:
    (root / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        old = (torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
        torch.save(old, root / "MNIST" / "processed" / name)
    source = load_source("mnist", root, allow_unverified=True)
    np.testing.assert_array_equal(source.train.images.numpy(), images_in(raw(root) / "train-images-idx3-ubyte"))


def test_real_mnist_passes_its_hashes(mnist_root: Path) -> None:
    source = load_source("auto", mnist_root, allow_unverified=False)
    assert source.name == "mnist"
    assert source.validation is None
    assert source.train.images.shape == (60000, 28, 28)
    assert source.test.images.shape == (10000, 28, 28)
    assert source.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert source.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_one_changed_byte_of_real_mnist_is_refused(mnist_root: Path, tmp_path: Path) -> None:
    shutil.copytree(raw(mnist_root), raw(tmp_path))
    path = raw(tmp_path) / "t10k-labels-idx1-ubyte"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    refused(tmp_path, "t10k-labels-idx1-ubyte is not MNIST's file", "auto", allow_unverified=False)


IMAGES, LABELS = torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([0, 9, 5])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.float(), LABELS, r"images of shape \(3, 28, 28\) and torch.float32 with 3 labels"),
        (IMAGES.float() * torch.nan, LABELS, "uint8 are needed"),
        (IMAGES[:2], LABELS, r"images of shape \(2, 28, 28\) and torch.uint8 with 3 labels"),
        (IMAGES[:, :14], LABELS, r"\(n, S, S\) and uint8 are needed"),
        (IMAGES, LABELS.float(), "labels of shape .* torch.float32"),
        (IMAGES, LABELS[:, None], r"labels of shape \(3, 1\)"),
        (IMAGES[:0], LABELS[:0], r"labels of shape \(0,\)"),
        (IMAGES, LABELS + 1, "labels from 1 to 10: 0 … 9 are needed"),
        (IMAGES, LABELS - 1, "labels from -1 to 8"),
    ],
)
def test_digits_are_bytes_with_labels_0_to_9(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        Digits(images, labels)


# --- the bundled digits ---


@pytest.fixture(scope="module")
def parts() -> tuple[Digits, Digits, Digits]:
    source = load_source("digits", Path("nowhere"), allow_unverified=False)
    assert source.name == "digits"
    assert source.validation is not None
    return source.train, source.validation, source.test


def test_bundled_digits_are_split_1197_300_300(parts: tuple[Digits, ...]) -> None:
    assert [len(part.labels) for part in parts] == [1197, 300, 300]
    for part in parts:
        assert part.images.shape == (len(part.labels), 28, 28)
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)


def test_bundled_digits_use_the_range_of_mnist(parts: tuple[Digits, ...]) -> None:
    images = torch.cat([part.images for part in parts])
    assert (images.min(), images.max()) == (0, 255)


def test_bundled_digits_are_split_by_class(parts: tuple[Digits, ...]) -> None:
    total = np.bincount(load_digits().target)
    for part in parts:
        expected = total * len(part.labels) / 1797
        assert np.abs(np.bincount(part.labels.numpy(), minlength=10) - expected).max() < 1.5


def test_bundled_digits_are_disjoint_and_complete(parts: tuple[Digits, ...]) -> None:
    images = [image.tobytes() for part in parts for image in part.images.numpy()]
    assert len(set(images)) == 1797


def bilinear_weights() -> np.ndarray:
    """Return the (28, 8) matrix of bilinear interpolation between pixel centres, edges repeated."""
    centres = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(8)))


def test_bundled_digits_are_scikit_learns_enlarged(parts: tuple[Digits, ...]) -> None:
    bunch, weights = load_digits(), bilinear_weights()
    enlarged = np.rint(weights @ (bunch.images * 255 / 16) @ weights.T).astype(int)
    by_label = [Counter(bunch.target), Counter(torch.cat([part.labels for part in parts]).tolist())]
    assert by_label[0] == by_label[1]
    flat = enlarged.reshape(1797, -1)
    for part in parts:
        for image, label in list(zip(part.images.numpy().astype(int), part.labels.tolist(), strict=True))[:40]:
            distance = np.abs(flat - image.ravel()).max(1)
            assert distance.min() <= 1  # rounding
            assert bunch.target[distance.argmin()] == label


def test_bundled_digits_are_the_same_every_time(parts: tuple[Digits, ...]) -> None:
    torch.manual_seed(1)
    again = load_source("digits", Path("elsewhere"), allow_unverified=True)
    for part, same in zip(parts, (again.train, again.validation, again.test), strict=True):
        assert same is not None
        assert torch.equal(part.images, same.images)
        assert torch.equal(part.labels, same.labels)


# --- without MNIST and without network ---


def test_auto_without_network_uses_the_bundled_digits_with_a_loud_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_source("auto", tmp_path, allow_unverified=False).name == "digits"
    out, err = capsys.readouterr()
    assert out == ""
    assert "WARNING" in err
    assert "*" * 80 in err
    assert "bundled digits instead: the numbers are NOT MNIST's" in err
    assert files_under(tmp_path) == []


def test_mnist_without_network_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(tmp_path, r"MNIST is not in .*MNIST/raw and its servers do not answer: set data\.root .*PAIRS_LIT_DATA")
    assert capsys.readouterr().err == ""


def test_the_bundled_digits_never_need_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pairs_lit.data.mnist._reachable", unexpected)
    assert load_source("digits", tmp_path, allow_unverified=False).name == "digits"
    assert capsys.readouterr().err == ""


def test_files_that_are_present_never_need_the_network(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs_lit.data.mnist._reachable", unexpected)
    assert load_source("auto", root, allow_unverified=True).name == "mnist (unverified)"


def unexpected(*_: object) -> NoReturn:
    raise AssertionError("nobody should ask")


# --- servers that misbehave ---


class Server:
    """Answers every connection with a function of the socket, and leaves it open for 12 seconds at most."""

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
                opened = [each for each in opened if not self._closed_if_old(*each)]
                continue
            connection.settimeout(5)
            self._answer(connection)
            opened.append((time.monotonic(), connection))
        for _, connection in opened:
            connection.close()

    def _closed_if_old(self, since: float, connection: socket.socket) -> bool:
        old = time.monotonic() - since > 12
        if old:
            connection.close()
        return old

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


def silence(connection: socket.socket) -> None:
    """Take the connection and never answer, as behind a firewall that swallows packets."""


def nonsense(connection: socket.socket) -> None:
    connection.recv(10000)
    connection.sendall(b"220 this is no web server\r\n")
    connection.shutdown(socket.SHUT_WR)


def hang_up(connection: socket.socket) -> None:
    connection.recv(10000)
    connection.shutdown(socket.SHUT_WR)


def respond(header: bytes, body: bytes, *, finish: bool = True) -> Answer:
    def answer(connection: socket.socket) -> None:
        head = connection.recv(10000).startswith(b"HEAD")
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n" + (b"" if head else body))
        if head or finish:
            connection.shutdown(socket.SHUT_WR)

    return answer


@pytest.mark.slow
def test_a_firewall_that_swallows_packets_is_noticed_in_time(
    tmp_path: Path, serve: Callable[[Answer], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(silence)
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
    monkeypatch.setattr("pairs_lit.data.mnist.PROBE_SECONDS", 1.0)  # the test above waits as long as users do
    start = time.monotonic()
    try:
        refused(tmp_path, "its servers do not answer")
    finally:
        over.set()
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("answer", [nonsense, hang_up])
def test_a_server_that_does_not_speak_http_does_not_count(
    tmp_path: Path, serve: Callable[[Answer], Server], answer: Answer
) -> None:
    serve(answer)
    refused(tmp_path, "its servers do not answer")


def test_one_mirror_that_answers_is_enough(
    tmp_path: Path, serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serve(respond(b"Content-Length: 500", b"abc")).url
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", good])
    refused(tmp_path, "could not be downloaded")


def test_a_refused_connection_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    start = time.monotonic()
    refused(tmp_path, "its servers do not answer")
    assert time.monotonic() - start < 2


# --- downloads ---


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served as MNIST's mirror; it holds the four packed files of tiny digits."""
    unpacked = raw(write_mnist(tmp_path / "original", TRAIN, TEST))
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
def test_a_download_lands_under_root_and_leaves_nothing_else(
    tmp_path: Path, mirror: Path, name: SourceName, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "root"
    source = load_source(name, root, allow_unverified=True)
    assert source.name == "mnist (unverified)"
    assert f"downloading MNIST to {root}" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == [".lock", "MNIST"]
    assert sorted(path.name for path in files_under(root)) == sorted(FILES)
    for file in FILES:
        assert (raw(root) / file).read_bytes() == (raw(tmp_path / "original") / file).read_bytes()
    assert len(source.train.labels) == TRAIN


def test_a_download_happens_once(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_source("mnist", tmp_path / "root", allow_unverified=True)
    monkeypatch.setattr("pairs_lit.data.mnist._reachable", unexpected)
    load_source("mnist", tmp_path / "root", allow_unverified=True)


def test_a_download_fetches_what_is_missing_and_replaces_nothing(tmp_path: Path, mirror: Path) -> None:
    own = write_mnist(tmp_path / "root", TRAIN, TEST)
    mine = raw(own) / "train-labels-idx1-ubyte"
    write_idx(mine, np.zeros(TRAIN))
    before = mine.read_bytes()
    (raw(own) / "t10k-labels-idx1-ubyte").unlink()
    load_source("mnist", own, allow_unverified=True)
    assert mine.read_bytes() == before
    assert (raw(own) / "t10k-labels-idx1-ubyte").is_file()


def test_a_download_clears_what_a_killed_one_left(tmp_path: Path, mirror: Path) -> None:
    left = tmp_path / "root" / ".download" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of it")
    load_source("mnist", tmp_path / "root", allow_unverified=True)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".lock", "MNIST"]


def test_simultaneous_downloads_fetch_each_file_once(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def count(handler: Silent) -> None:
        asked.append(handler.path)
        SimpleHTTPRequestHandler.do_GET(handler)

    monkeypatch.setattr(Silent, "do_GET", count)
    load_source("mnist", tmp_path / "alone", allow_unverified=True)
    alone = list(asked)
    with ThreadPoolExecutor(4) as pool:
        sources = list(pool.map(lambda _: load_source("mnist", tmp_path / "root", allow_unverified=True), range(4)))
    assert all(torch.equal(source.train.images, sources[0].train.images) for source in sources)
    assert sorted(asked) == sorted([*alone, *alone])


def test_a_download_is_checked_like_any_other_file(tmp_path: Path, mirror: Path) -> None:
    refused(tmp_path / "root", "is not MNIST's file", allow_unverified=False)


def test_a_download_leaves_the_default_timeout_as_it_was(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = socket.getdefaulttimeout()
    load_source("mnist", tmp_path / "root", allow_unverified=True)
    empty(mirror / "t10k-labels-idx1-ubyte.gz")
    refused(tmp_path / "other", "could not be downloaded")
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize("damage", [empty, truncate, text])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"])
def test_a_download_that_fails_midway_leaves_no_file(
    tmp_path: Path, mirror: Path, damage: Callable[[Path], None], file: str
) -> None:
    damage(mirror / file)
    refused(tmp_path / "root", r"(?s)MNIST could not be downloaded to .*root .*set data\.source to digits")
    assert files_under(tmp_path / "root") == []
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".lock", "MNIST"]


def test_a_failed_download_is_told_in_one_line(tmp_path: Path, mirror: Path) -> None:
    truncate(mirror / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(PairsLitError) as caught:
        load_source("mnist", tmp_path / "root", allow_unverified=True)
    assert "\n" not in str(caught.value)


def test_auto_falls_back_loudly_where_a_download_fails_midway(
    tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(mirror / "t10k-images-idx3-ubyte.gz")
    assert load_source("auto", tmp_path / "root", allow_unverified=True).name == "digits"
    assert "could not be downloaded" in capsys.readouterr().err
    assert files_under(tmp_path / "root") == []


@pytest.mark.parametrize(
    "answer",
    [
        respond(b"Content-Length: 500", b"abc"),
        respond(b"Transfer-Encoding: chunked", b"fff\r\nabc"),
        respond(b"Content-Length: 500", b"abc", finish=False),
    ],
    ids=["cut", "chunks cut", "stalled"],
)
def test_a_connection_that_breaks_midway_is_one_line_and_leaves_no_file(
    tmp_path: Path, serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr("pairs_lit.data.mnist.STALL_SECONDS", 0.5)
    serve(answer)
    start = time.monotonic()
    refused(tmp_path, "MNIST could not be downloaded")
    assert time.monotonic() - start < 5
    assert files_under(tmp_path) == []
    assert socket.getdefaulttimeout() is None


def test_a_root_that_cannot_be_written_is_one_line(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "MNIST could not be downloaded to .*file")
