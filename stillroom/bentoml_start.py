"""What BentoML's command loads before it does anything: the settings that its own start needs.

BentoML looks for commands of other packages in the group "bentoml.commands" (pyproject.toml). By
then it has neither made its home nor reported anything, which is sooner than it imports a service.
The package above this module has settled both when this is read.
"""

from __future__ import annotations

import sys
import tempfile

import click

from serve.contract.shortage import shortage_of

__all__ = ["command"]


@click.command("stillroom", hidden=True)
def command() -> None:
    """The commands are those of stillroom."""
    click.echo("See stillroom --help.")


if "serve" in sys.argv[1:2]:
    try:
        tempfile.gettempdir()  # BentoML needs one, and would say so in a traceback
    except OSError as error:
        sys.exit(f"error: {shortage_of(error)}")

# A Bento brings a `serve` of its own, which must be the one that is served.
for name in [name for name in sys.modules if name.partition(".")[0] == "serve"]:
    del sys.modules[name]
