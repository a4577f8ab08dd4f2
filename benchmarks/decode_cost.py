"""What preprocessing an image costs: CPU time and memory by format, mode and content.

    python -m benchmarks.decode_cost --table benchmarks/results/decode_cost.md

Each image is made here, and preprocessed to 224 px in a process of its own: the least CPU time of
ROUNDS, and the growth of its peak resident memory. Beside them stands what `charge_of` says of the
file, by which the service refuses: a charge below the memory would be a hole.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.setting import cpu_name
from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, charge_of_file, preprocess

ROUNDS = 3
SPEC = PreprocessSpec(224)
CLEAR_PEAK = "5"  # proc_pid_clear_refs: the peak of resident memory starts again


@dataclass(frozen=True)
class Kind:
    """A way to store an image.

    Args:
        name: in the table.
        mode: Pillow's.
        format: Pillow's.
        options: of `Image.save`.
    """

    name: str
    mode: str
    format: str
    options: dict[str, object]


KINDS = (
    Kind("JPEG", "RGB", "JPEG", {}),
    Kind("JPEG grey", "L", "JPEG", {}),
    Kind("JPEG CMYK", "CMYK", "JPEG", {}),
    Kind("JPEG progressive", "RGB", "JPEG", {"progressive": True}),
    Kind("JPEG progressive 4:4:4", "RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    Kind("JPEG progressive CMYK", "CMYK", "JPEG", {"progressive": True}),
    Kind("PNG", "RGB", "PNG", {}),
    Kind("PNG grey", "L", "PNG", {}),
    Kind("PNG grey and alpha", "LA", "PNG", {}),
    Kind("PNG alpha", "RGBA", "PNG", {}),
    Kind("PNG palette", "P", "PNG", {}),
    Kind("PNG 1 bit", "1", "PNG", {}),
    Kind("PNG grey 16 bits", "I;16", "PNG", {}),
    Kind("PNG colour 16 bits", "RGB;16", "PNG", {}),
    Kind("PNG alpha 16 bits", "RGBA;16", "PNG", {}),
    Kind("WebP", "RGB", "WEBP", {}),
    Kind("WebP alpha", "RGBA", "WEBP", {}),
    Kind("WebP lossless", "RGB", "WEBP", {"lossless": True, "method": 0}),
    Kind("WebP lossless alpha", "RGBA", "WEBP", {"lossless": True, "method": 0}),
)
BANDS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "RGB;16": 3, "RGBA;16": 4}
PNG_COLOUR = {"RGB;16": 2, "RGBA;16": 6}


@dataclass(frozen=True)
class Cost:
    """Of one file.

    Args:
        file_mb: 10**6 bytes.
        cpu_s: least of ROUNDS.
        peak_mb: memory beyond what the process had, 10**6 bytes.
        charge_mb: by `charge_of`, 10**6 bytes.
    """

    file_mb: float
    cpu_s: float
    peak_mb: float
    charge_mb: float


def encoded(kind: Kind, megapixels: float, *, smooth: bool) -> bytes:
    """An image file of 4:3, of one colour or of soft blobs with noise."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    size = (width, round(width * 3 / 4))
    levels = _blobs(size, BANDS.get(kind.mode, 1)) if smooth else None
    if kind.mode in PNG_COLOUR:
        return _png_16(size, kind.mode, levels)
    if levels is None:
        image = Image.new(kind.mode, size)
    elif kind.mode == "I;16":
        image = Image.fromarray(levels[..., 0].astype(np.uint16) * 257)
    elif kind.mode in ("1", "P"):
        image = Image.fromarray(levels[..., 0]).convert(kind.mode)
    else:
        image = Image.fromarray(levels.squeeze(), kind.mode)
    file = io.BytesIO()
    image.save(file, kind.format, **kind.options)
    return file.getvalue()


def _blobs(size: tuple[int, int], bands: int) -> np.ndarray:
    random = np.random.default_rng(0)
    small = (max(size[1] // 24, 1), max(size[0] // 24, 1))
    layers = []
    for _ in range(bands):
        soft = Image.fromarray(random.integers(0, 256, small, dtype=np.uint8)).resize(size)
        noisy = np.asarray(soft, np.int16) + random.integers(-4, 5, size[::-1], dtype=np.int16)
        layers.append(noisy.clip(0, 255).astype(np.uint8))
    return np.stack(layers, axis=-1)


def _png_16(size: tuple[int, int], mode: str, levels: np.ndarray | None) -> bytes:
    """Pillow writes no colours of 16 bits. Lines are filtered by Paeth, which costs the most."""
    width, height = size
    bands = BANDS[mode]
    lines = np.zeros((height, 1 + width * bands * 2), np.uint8)
    lines[:, 0] = 4
    if levels is not None:
        lines[:, 1::2] = np.diff(levels, axis=0, prepend=0).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR[mode], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def cost_of(file: Path) -> Cost:
    """Preprocess a file; to be called in a process of its own."""
    data = file.read_bytes()
    charge = charge_of_file(data, NO_LIMITS)
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    before = _peak_kb()
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        preprocess(data, SPEC, NO_LIMITS)
        times.append(time.process_time() - begun)
    peak_mb = (_peak_kb() - before) * 1024 / 1e6
    return Cost(len(data) / 1e6, min(times), peak_mb, charge / 1e6)


def _peak_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(data: bytes, folder: Path) -> Cost:
    """The cost of a file, by a new process."""
    file = folder / "image"
    file.write_bytes(data)
    command = [sys.executable, "-m", "benchmarks.decode_cost", "--one", str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Cost(**json.loads(done.stdout))


def table(megapixels: float, folder: Path) -> list[str]:
    """Lines of the table, printed as they come."""
    names = (
        "image",
        "content",
        "file MB",
        "CPU s",
        "ns a pixel",
        "memory MB",
        "bytes a pixel",
        "charge MB",
    )
    lines = [f"| {' | '.join(names)} |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        for smooth in (False, True):
            cost = measured(encoded(kind, megapixels, smooth=smooth), folder)
            lines.append(
                f"| {kind.name} | {'blobs' if smooth else 'one colour'} | {cost.file_mb:.2f} "
                f"| {cost.cpu_s:.2f} | {cost.cpu_s / megapixels * 1e3:.0f} | {cost.peak_mb:.0f} "
                f"| {cost.peak_mb / megapixels:.1f} | {cost.charge_mb:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure one file, or all kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=Path, help="measure this file in this process")
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--table", type=Path, help="write Markdown here")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(asdict(cost_of(given.one))))
        return

    with tempfile.TemporaryDirectory() as folder:
        lines = table(given.megapixels, Path(folder))
    head = [
        f"# What decoding {given.megapixels:g} megapixels costs",
        "",
        "    python -m benchmarks.decode_cost",
        "",
        f"Preprocessed to {SPEC.size_px} px; least CPU time of {ROUNDS}, peak memory beyond the "
        f"process and the file; {cpu_name()}; Python {platform.python_version()}, Pillow "
        f"{metadata.version('pillow')}.",
        "",
    ]
    if given.table:
        given.table.write_text("\n".join([*head, *lines, ""]))


if __name__ == "__main__":
    main()
