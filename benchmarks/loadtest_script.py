"""An open-loop load in plain asyncio, written apart from `loadtest`: what its figures are held to.

    python -m benchmarks.loadtest_script URL PHOTOS --rate 50 --duration-s 30 --seed 1

It shares no line with `loadtest`: it draws its own schedule, speaks HTTP over its own sockets, one
connection to a request from a pool, and sorts its own latencies. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

Pool = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def post(pool: Pool, host: str, port: int, body: bytes) -> int:
    """Send one photo over an idle connection, or a new one; return the status."""
    reader, writer = pool.pop() if pool else await asyncio.open_connection(host, port)
    writer.write(
        f"POST /v1/classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    pool.append((reader, writer))
    return int(head.split()[1])


async def load(url: str, bodies: list[bytes], rate: float, duration_s: float, seed: int) -> dict:
    """Send at planned times whatever comes back; latency counts from the planned time."""
    parts, draw, pool = urlsplit(url), random.Random(seed), Pool()
    latencies_ms: list[float] = []
    failed = 0

    async def one(due_s: float, body: bytes) -> None:
        nonlocal failed
        try:
            status = await post(pool, parts.hostname or "", parts.port or 80, body)
        except (OSError, EOFError, asyncio.IncompleteReadError):
            status = 0
        failed += status != 200
        latencies_ms.append((time.perf_counter() - due_s) * 1000)

    begin_s, due_s, tasks = time.perf_counter() + 0.2, 0.0, []
    while (due_s := due_s + draw.expovariate(rate)) < duration_s:
        await asyncio.sleep(max(0.0, begin_s + due_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(begin_s + due_s, draw.choice(bodies))))
    await asyncio.gather(*tasks)
    for _, writer in pool:
        writer.close()
    latencies_ms.sort()
    ranks = {p: -(-len(latencies_ms) * p // 100) - 1 for p in (50, 90, 99)}
    figures = {f"p{p}_ms": round(latencies_ms[rank], 3) for p, rank in ranks.items()}
    return {"n": len(latencies_ms), "failed": failed, **figures}


def main() -> None:
    """Print the figures of one load."""
    parser = argparse.ArgumentParser(description="An open-loop load in plain asyncio.")
    parser.add_argument("url")
    parser.add_argument("photos", type=Path, help="folder of JPEG files")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bodies = [file.read_bytes() for file in sorted(options.photos.rglob("*.jpg"))]
    run = load(options.url, bodies, options.rate, options.duration_s, options.seed)
    print(json.dumps(asyncio.run(run)))


if __name__ == "__main__":
    main()
