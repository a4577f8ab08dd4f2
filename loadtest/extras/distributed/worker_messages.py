"""What the master of a split load hears from its workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loadtest.extras.distributed.serialization import sample_from_row
from loadtest.generator.outcome import Sample

__all__ = ["WorkerMessages"]


@dataclass(slots=True)
class WorkerMessages:
    """Messages by the client id of their worker; together a `Tally` of the running load.

    Attributes:
        digests: of each worker's corpus.
        ready: who has drawn its schedule.
        tallies: the latest counts of each.
        samples: of each, complete once its end is in.
        ends: reports of those that have finished.
    """

    digests: dict[str, str] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)

    def listen(self, master: Any) -> None:
        """Note every message of the load test that Locust's master receives."""

        def keep(kind: str, note: Callable[[str, dict[str, Any]], Any]) -> None:
            master.register_message(kind, lambda msg, **_: note(msg.node_id, msg.data))

        def add_rows(client: str, data: dict[str, Any]) -> None:
            self.samples.setdefault(client, []).extend(map(sample_from_row, data["rows"]))

        keep("load_corpus", lambda client, data: self.digests.update({client: data["sha256"]}))
        keep("load_ready", lambda client, data: self.ready.add(client))
        keep("load_tally", lambda client, data: self.tallies.update({client: data}))
        keep("load_samples", add_rows)
        keep("load_end", lambda client, data: self.ends.update({client: data}))

    @property
    def sent(self) -> int:
        """Requests that have begun."""
        return self._sum("sent")

    @property
    def ok(self) -> int:
        """Requests that ended well."""
        return self._sum("ok")

    @property
    def failed(self) -> int:
        """Requests that were sent and did not."""
        return self._sum("failed")

    @property
    def missed(self) -> int:
        """Requests that were not sent."""
        return self._sum("missed")

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return self._sum("in_flight")

    def _sum(self, name: str) -> int:
        return sum(int(tally[name]) for tally in self.tallies.values())
