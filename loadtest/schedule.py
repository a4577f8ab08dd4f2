"""When to send which photograph, decided before the load begins.

Independent clients together are a Poisson process: the gaps between their requests are exponential
and know nothing of the server's state. Drawing all of it ahead, from a seed, makes a run repeatable
and leaves the server no way to slow the schedule down.

Source: the scenario "Server" of MLPerf Inference's LoadGen (Reddi et al. 2019, arXiv:1911.02549).
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

__all__ = ["photo_picks", "poisson_times"]


def poisson_times(*, rate: float, duration_s: float, seed: int) -> list[float]:
    """Send times of a Poisson process.

    A longer duration with the same rate and seed only appends to the list.

    Args:
        rate: requests per second, > 0.
        duration_s: length of the process, > 0.
        seed: the same seed gives the same list on every machine and Python version.

    Returns:
        Seconds from the start, strictly below `duration_s`, ascending.

    Raises:
        ValueError: rate or duration is not above 0.
    """
    if not (rate > 0 and duration_s > 0):
        raise ValueError(f"rate {rate}/s and duration {duration_s} s must both be above 0")
    random = Random(f"send times {seed}")
    times: list[float] = []
    now = random.expovariate(rate)
    while now < duration_s:
        times.append(now)
        now += random.expovariate(rate)
    return times


def photo_picks(*, photos: int, seed: int, user: int = 0) -> Iterator[int]:
    """An endless stream of photo indices, uniform over the corpus.

    Args:
        photos: how many there are, at least 1.
        seed: of the run.
        user: number of the simulated user; each has its own stream.

    Yields:
        Indices from 0 to `photos` - 1.
    """
    random = Random(f"photos {seed} {user}")
    while True:
        yield random.randrange(photos)
