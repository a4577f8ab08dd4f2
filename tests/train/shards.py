"""Shards for tests: images packed by WebDataset's own writer, and a server that misbehaves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from webdataset import TarWriter

from train.data.audit.dataset_audit import audit_images
from train.data.dataset import Dataset
from train.data.shards.source import ShardSource
from train.data.source import open_source
from train.options import DataOptions

Sample = Mapping[str, Any]


def write_tar(path: Path, *samples: Sample) -> Path:
    """One shard of samples as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path), encoder=False, mtime=0) as tar:
        for sample in samples:
            tar.write(sample)
    return path


def sample_of(path: Path) -> dict[str, Any]:
    """A file of a class folder as a sample."""
    label = path.parent.name
    return {"__key__": f"{label}-{path.stem}", "jpg": path.read_bytes(), "cls": label.encode()}


def pack(photos: Path, folder: Path, count: int = 6, *, name: str = "") -> str:
    """Pack a folder of class folders into shards of equal size, in mixed order.

    Returns:
        Their pattern.
    """
    files = sorted(photos.rglob("*.jpg"))
    random.Random(0).shuffle(files)
    for number in range(count):
        samples = map(sample_of, files[number::count])
        write_tar(folder / f"{name}{number:03d}.tar", *samples)
    return f"{folder}/{name}{{000..{count - 1:03d}}}.tar"


def open_shards(pattern: str, out: Path, *, cache_mib: int = 64) -> Dataset:
    """Index and audit shards, and open them."""
    out.mkdir(parents=True, exist_ok=True)
    source = open_source(ShardSource(pattern))
    options = DataOptions(0.2, 0.25)
    audit_images(source.root, options, seed=0, out=out, photos=source.photos)
    return Dataset.open(source.root, out / "index.csv", cache_mib)


class Server:
    """Files of a folder over HTTP.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.failures: dict[str, list[str]] = {}  # by file: cut, gone; or the name of another file
        self.url = ""

    def answer(self, name: str) -> tuple[int, bytes, int]:
        """Status, bytes, and how many are promised."""
        self.asked[name] += 1
        failures = self.failures.get(name, [])
        failure = failures.pop(0) if failures else ""
        path = self.folder / (failure if failure.endswith(".tar") else name)
        if failure == "gone" or not path.is_file():
            return 404, b"", 0
        data = path.read_bytes()
        return 200, data[: len(data) // 2] if failure == "cut" else data, len(data)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server on 127.0.0.1 while the block runs."""
    server = Server(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, data, size = server.answer(self.path.lstrip("/"))
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
