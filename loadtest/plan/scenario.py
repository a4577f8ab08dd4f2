"""The kinds of load, named as MLPerf names them where it has a name.

| scenario | what is sent | what it tells |
|---|---|---|
| singlestream | the next image when the last is answered, one client | latency without queueing |
| server | Poisson arrivals at a rate | latency that users of a public service see |
| offline | all images are there at once, some connections drain them | highest throughput |
| closed | some clients, each sends when it is answered | what so many clients get |
| saturation | closed, with 1, 2, 4, ... clients | how throughput scales, and where it ends |
| constant | evenly spaced arrivals | a metronome, such as a camera |
| ramp | Poisson, from a tenth of the rate up to the rate | where latency takes off |
| step | Poisson, a fifth, two fifths, ... of the rate | the same, in plateaus |
| spike | Poisson, with three times the rate in the middle fifth | what stays behind after a rush |
| soak | as server, for long | whether latency drifts |
| recorded | arrivals read from a file | a day that was |

Source: Reddi et al. 2019, arXiv:1911.02549, section 3 (SingleStream, Server, Offline).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from loadtest.errors import UsageError
from loadtest.plan.schedule import Segment, even_counts, poisson_counts, times_from_counts

__all__ = [
    "CLOSED_SCENARIOS",
    "OPEN_SCENARIOS",
    "RATE_SCENARIOS",
    "SCENARIOS",
    "read_recorded",
    "scenario_times",
    "segments_of",
]

RATE_SCENARIOS = ("server", "constant", "ramp", "step", "spike", "soak")
OPEN_SCENARIOS = (*RATE_SCENARIOS, "recorded", "offline")
CLOSED_SCENARIOS = ("singlestream", "closed", "saturation")
SCENARIOS = (*OPEN_SCENARIOS, *CLOSED_SCENARIOS)

RAMP_FROM = 0.1
STEPS = 5
SPIKE_FACTOR = 3.0
TIME_COLUMN = "time_s"


def segments_of(scenario: str, *, rate: float, duration_s: float) -> list[Segment]:
    """The rate over the measured window.

    Args:
        scenario: one of `RATE_SCENARIOS`.
        rate: requests per second: the highest of a ramp or steps, the ordinary one of a spike.
        duration_s: of the window.
    """
    if scenario == "ramp":
        return [Segment(duration_s, RAMP_FROM * rate, rate)]
    if scenario == "step":
        part_s = duration_s / STEPS
        rates = [rate * number / STEPS for number in range(1, STEPS + 1)]
        return [Segment(part_s, step, step) for step in rates]
    if scenario == "spike":
        around_s, high = 0.4 * duration_s, SPIKE_FACTOR * rate
        calm = Segment(around_s, rate, rate)
        return [calm, Segment(duration_s - 2 * around_s, high, high), calm]
    return [Segment(duration_s, rate, rate)]


def scenario_times(
    scenario: str,
    *,
    rate: float,
    duration_s: float,
    warmup_s: float,
    seed: int,
    worker: int = 0,
    workers: int = 1,
) -> list[float]:
    """Planned send times of one generator, in seconds from the start of the measured window.

    The warm-up, below 0, has the rate with which the window begins.
    """
    segments = segments_of(scenario, rate=rate, duration_s=duration_s)
    if warmup_s:
        first = segments[0].begin_rps
        segments.insert(0, Segment(warmup_s, first, first))
    share = {"worker": worker, "workers": workers}
    counts = even_counts(**share) if scenario == "constant" else poisson_counts(seed=seed, **share)
    return [time_s - warmup_s for time_s in times_from_counts(counts, segments)]


def read_recorded(file: Path) -> tuple[float, ...]:
    """Arrival times out of a CSV file with the column `time_s`.

    Only differences count: the first arrival is 0, so seconds of any clock will do.

    Returns:
        Seconds from the first arrival, ascending.

    Raises:
        UsageError: no such file, no such column, a field that is not a number, or no rows.
    """
    example = f"let its first line be {TIME_COLUMN}, and each other a number of seconds"
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if TIME_COLUMN not in (reader.fieldnames or ()):
                raise UsageError(f"--recorded {str(file)!r} has no column {TIME_COLUMN!r}", example)
            times = [_seconds(row[TIME_COLUMN], file, reader.line_num) for row in reader]
    except OSError as error:
        raise UsageError(
            f"--recorded {str(file)!r} cannot be read ({error.strerror})", "name a CSV file"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"--recorded {str(file)!r} is not CSV text in UTF-8 ({error})"
        raise UsageError(message, example) from error
    if not times:
        raise UsageError(f"--recorded {str(file)!r} holds no arrivals", example)
    return from_first(times)


def from_first(times: Sequence[float]) -> tuple[float, ...]:
    """Sorted, and counted from the first."""
    first = min(times)
    return tuple(sorted(time - first for time in times))


def _seconds(text: str | None, file: Path, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"--recorded {str(file)!r}, line {line}: {text!r} is not a number of seconds",
            "correct or remove the line",
        )
    return value
