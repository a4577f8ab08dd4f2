"""The route table: every path of the service is one row, read by all who need to know of it.

* The guard asks it which paths and methods exist, and for which a token is needed.
* The app is built of its handlers, which are named, so that the guard imports none of them.
* /openapi.json says of each what its row says.

What has no row does not exist, as BentoML's own pages. A new route is a row and a handler.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from serve.http.problems import Problem
from serve.plugins import load_plugin

__all__ = ["BENTOML_PATHS", "CORE", "Route", "RouteGroup", "RouteTable", "route_table"]

GET = ("GET", "HEAD")
PART = r"[\w.-]{1,128}"  # of a path, where a row has {name}
ErrorBody = Callable[[Problem], tuple[bytes, str]]


@dataclass(frozen=True)
class Route:
    r"""A path, or a family of paths.

    Args:
        path: for example "/v1/model"; "{name}" stands for a part that the handler is given.
        methods: that it takes, in the order in which a 405 lists them; POST has a body.
        handler: "module:function" of a Starlette endpoint; empty where BentoML answers.
        summary: in the OpenAPI document, which leaves out a route without one.
        schema: in that document: of the body of a 200; empty for one that has none.
        operation: "module:function" that makes the whole OpenAPI operation of the route, where
            summary and schema are not enough.
        needs_token: whether a token is asked for, where the service has one.
        parts: regular expressions of the path's parts, by name; `[\w.-]{1,128}` else.
        label: in metrics; the path when empty. Routes may share one.
    """

    path: str
    methods: tuple[str, ...]
    handler: str = ""
    summary: str = ""
    schema: str = ""
    operation: str = ""
    needs_token: bool = True
    parts: dict[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Of the whole path."""
        pieces = re.split(r"\{(\w+)\}", self.path)  # text and names by turns
        names = [self.parts.get(name, PART) for name in pieces[1::2]]
        texts = [re.escape(text) for text in pieces[::2]]
        return re.compile("".join(map("".join, zip(texts, [*names, ""], strict=True))), re.ASCII)


@dataclass(frozen=True)
class RouteGroup:
    """Routes that speak alike.

    Args:
        routes: the rows.
        prefix: of all paths whose errors `error_body` writes, whether they exist or not.
        error_body: body and media type of a problem; as RFC 9457 has it when None.
        schemas: "module:function" that gives the OpenAPI schemas which rows name.
    """

    routes: tuple[Route, ...]
    prefix: str = ""
    error_body: ErrorBody | None = None
    schemas: str = ""


CORE = RouteGroup(
    (
        Route("/", GET, "serve.http.about:page", needs_token=False),  # it asks for the token
        Route(
            "/v1/classify",
            ("POST",),
            "serve.http.classify:classify",
            "Classify one image",
            operation="serve.http.openapi:classify_operation",
        ),
        Route(
            "/v1/classify/batch",
            ("POST",),
            "serve.http.classify:classify_batch",
            "Classify several images, each with its own result or problem",
            operation="serve.http.openapi:batch_operation",
        ),
        Route(
            "/v1/model",
            GET,
            "serve.http.about:model",
            "What is served, and where it came from",
            schema="Model",
        ),
        Route("/livez", GET, summary="The process lives", needs_token=False),
        Route("/readyz", GET, summary="The service is ready", needs_token=False),
        Route("/healthz", GET, summary="As /livez", needs_token=False),
        Route("/metrics", GET, summary="Prometheus metrics"),
        Route("/openapi.json", GET, "serve.http.about:openapi", "This document"),
    ),
    schemas="serve.http.openapi:core_schemas",
)
BENTOML_PATHS = tuple(route.path for route in CORE.routes if not route.handler)


class RouteTable:
    """All routes of a service.

    Args:
        groups: of routes.

    Raises:
        ValueError: two rows have one path.
    """

    def __init__(self, groups: Iterable[RouteGroup]) -> None:
        self.groups = tuple(groups)
        self.routes = tuple(route for group in self.groups for route in group.routes)
        if twice := [path for path, n in Counter(r.path for r in self.routes).items() if n > 1]:
            raise ValueError(f"{', '.join(twice)}: expected one row a path.")
        self._fixed = {one.path: one for one in self.routes if "{" not in one.path}
        self._families = [(one.pattern, one) for one in self.routes if "{" in one.path]

    def find(self, path: str) -> Route | None:
        """The row of a path; None where no row has it."""
        if route := self._fixed.get(path):
            return route
        return next((one for pattern, one in self._families if pattern.fullmatch(path)), None)

    def error_body_of(self, path: str) -> ErrorBody | None:
        """How problems are written below a path; None for RFC 9457."""
        fits = (one for one in self.groups if one.error_body and path.startswith(one.prefix))
        return next((group.error_body for group in fits), None)


def route_table(*, oip: bool = True) -> RouteTable:
    """The table of a service.

    Args:
        oip: with the Open Inference Protocol, version 2.
    """
    return RouteTable([CORE, load_plugin("oip_v2")] if oip else [CORE])
