"""The command lines and overrides of README.md and docs/*.md, as a reader would copy them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# docs/architecture.md is a map: what it names is not typed.
DOCUMENTS = (
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "architecture.md"),
)
PROGRAMS = "stillroom|bentoml|python -m|curl|docker|kubectl|torchrun|srun|uv|pip|git|pytest"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{PROGRAMS})\s+\S")
UV_RUN = re.compile(r"\buv run (?:--[a-z-]+ [a-z0-9-]+ )*")
INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
OVERRIDE = re.compile(r"[a-z_]+(?:\.[a-z_0-9]+)+=(?:\{[^}`]*\}|[^\s`]+)")
COMMENT = re.compile(r"\s+# .*")


def documented_commands() -> dict[str, str]:
    """Command line -> the document that shows it first; without `uv run` and comments."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        for text in _commands(document.read_text(encoding="utf-8")):
            found.setdefault(text, document.name)
    return found


def documented_overrides() -> dict[str, str]:
    """`section.key=value` -> the document that shows it first, but for those of a sweep's grid."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for code in (*_lines(text), *_inline(text)):
            if " sweep " not in code and not code.startswith("section."):
                for override in OVERRIDE.findall(code):
                    found.setdefault(override, document.name)
    return found


def _commands(text: str) -> Iterator[str]:
    for line in _lines(text):
        for part in COMMENT.sub("", line).split(" && "):
            if (command := _plain(part)) and COMMAND.match(command):
                yield command
    for code in _inline(text):
        if COMMAND.match(command := _plain(code)) and not _is_mention(command):
            yield command


def _plain(text: str) -> str:
    return UV_RUN.sub("", text.strip())


def _is_mention(command: str) -> bool:
    """A command in running text, named without what it is run on."""
    words = re.sub(r"^(?:[A-Z_]+=\S+ )+|^python -m ", "", command).split()
    skip = 2 if words[0] in ("stillroom", "bentoml") else 1
    return "--help" not in words and all(word.startswith("-") for word in words[skip:])


def _lines(text: str) -> Iterator[str]:
    """Lines of code blocks, indented or fenced; one that ends in a backslash goes on."""
    fenced, begun = False, ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            begun += line.strip()
            if begun.endswith("\\"):
                begun = begun[:-1]
                continue
            yield begun
        begun = ""


def _inline(text: str) -> Iterator[str]:
    for match in INLINE.finditer(text):
        yield " ".join(match[1].split())
