"""Locust's own FastHttpUser at a steady pace, as its documentation has it: the peer in cost."""

from __future__ import annotations

import os
import random
from pathlib import Path

from locust import FastHttpUser, constant_throughput, task

BODIES = [file.read_bytes() for file in sorted(Path(os.environ["LOADTEST_PHOTOS"]).rglob("*.jpg"))]


class PlainUser(FastHttpUser):
    """One of `LOADTEST_USERS`, which send `LOADTEST_RATE` requests a second together."""

    wait_time = constant_throughput(
        float(os.environ["LOADTEST_RATE"]) / float(os.environ["LOADTEST_USERS"])
    )

    @task
    def classify(self) -> None:
        """One photo."""
        headers = {"Content-Type": "image/jpeg"}
        self.client.post("/v1/classify", data=random.choice(BODIES), headers=headers)
