"""Which commands there are, and where: each is imported when it is called, or its help is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["COMMANDS", "CommandTable"]

# In the order of `stillroom --help`. A group is a `typer.Typer`, a command a function.
COMMANDS = {
    "ablate": "studies.ablate:ablate",
    "evaluate": "training.evaluate:evaluate",
    "export": "artifact.export:export",
    "parity": "artifact.parity:parity",
    "demo": "data.demo:demo",
    "run": "run.run:run",
    "audit": "data.audit:audit",
    "convert": "data.convert:convert",
    "train": "training.train:train",
    "compress": "training.compress:compress",
    "report": "run.report:report",
    "serve": "service.serve:serve",
    "build": "service.build:build",
    "predict": "service.predict:predict",
    "verify": "run.verify:verify",
    "compare": "run.compare:compare",
    "status": "run.status:status",
    "sweep": "studies.sweep:sweep_app",
    "admin": "service.admin:admin_app",
    "loadtest": "service.loadtest:loadtest_app",
}
PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}


class CommandTable(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": None})
        self.commands: Any = _Imported()

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in order; none is imported."""
        return list(self.commands)


class _Imported(Mapping[str, Any]):
    """Commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        found = resolve_name(f"stillroom.commands.{COMMANDS[name]}")
        app = typer.Typer(**PLAIN)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
        return typer.main.get_group(app).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)
