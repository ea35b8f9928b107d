"""Writes docs/reference/{commands,settings,errors}.md from the code. A test holds them to be what this would write.

Usage: python tools/make_reference.py [--check]
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

import neutronflow
from neutronflow.cli import COMMANDS
from neutronflow.foundation.config import PORTS
from neutronflow.stack.show_config import SECTIONS

FOLDER = Path(__file__).parents[1] / "docs" / "reference"


def commands() -> str:
    """Every subcommand with its help."""
    parts = ["# Commands", "", "Made by `tools/make_reference.py`. `neutronflow COMMAND --help` says the same.", ""]
    for name, (module, help_text) in COMMANDS.items():
        parser = argparse.ArgumentParser(
            prog=f"neutronflow {name}", formatter_class=lambda prog: argparse.HelpFormatter(prog, width=110)
        )
        importlib.import_module(module).configure(parser)
        parts += [
            f"## {name}",
            "",
            f"{help_text[0].upper()}{help_text[1:]}.",
            "",
            "```",
            parser.format_help().strip(),
            "```",
            "",
        ]
    return "\n".join(parts)


def settings() -> str:
    """Every section with its keys."""
    parts = [
        "# Settings",
        "",
        "Made by `tools/make_reference.py`. Settings come from the TOML file that `NEUTRONFLOW_CONFIG` names and from "
        "the environment, which wins: `NEUTRONFLOW_<SECTION>__<KEY>` (two underscores), for `core` also `NEUTRONFLOW_<KEY>`. "
        "`neutronflow config` prints those in force.",
        "",
        "Secrets are no settings: they come from `NEUTRONFLOW_SECRET_<NAME>` or from files in `<data_dir>/secrets`, which "
        "`up` makes.",
        "",
    ]
    for section, where in SECTIONS.items():
        module, struct = where.split(":")
        kind = getattr(importlib.import_module(module), struct)
        parts += [
            f"## [{section}]",
            "",
            (kind.__doc__ or "").strip().split("\n")[0],
            "",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        comments = _comments(kind)
        for field in msgspec.structs.fields(kind):
            default = field.default if field.default is not msgspec.NODEFAULT else "(required)"
            parts.append(f"| `{field.name}` | `{_shown(default)}` | {comments.get(field.name, '')} |")
        parts.append("")
    parts += [
        "## [facilities.NAME]",
        "",
        "See [how to add an instrument or a facility](../how-to/add-an-instrument.md).",
        "",
    ]
    parts += ["## Ports", "", "`port_offset` is added to each.", "", "| name | port |", "|---|---|"]
    parts += [f"| {name} | {port} |" for name, port in PORTS.items()]
    return "\n".join([*parts, ""])


def errors() -> str:
    """Every error that a person may read."""
    parts = [
        "# Errors",
        "",
        "Made by `tools/make_reference.py`. Each error has a stable code, which logs, dead letters and tests refer to, and "
        "a sentence.",
        "",
        "| code | sentence |",
        "|---|---|",
    ]
    found = sorted(set(_error_sentences()))
    parts += [f"| `{code}` | {sentence.replace('|', '&#124;')} |" for code, sentence in found]
    return "\n".join([*parts, ""])


def _error_sentences() -> Iterator[tuple[str, str]]:
    """(code, sentence) of every error class: one with a docstring and a ``code``. Read, not imported."""
    for path in sorted(Path(neutronflow.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and (sentence := ast.get_docstring(node)):
                for part in node.body:
                    match part:
                        case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                            yield code, " ".join(sentence.split())


def _comments(kind: type) -> dict[str, str]:
    """The ``#:`` comments above a struct's fields."""
    told: dict[str, str] = {}
    held: list[str] = []
    for line in inspect.getsource(kind).split("\n"):
        text = line.strip()
        if text.startswith("#:"):
            held.append(text[2:].strip())
        elif match := re.match(r"(\w+):", text):
            if held:
                told[match[1]] = " ".join(held)
            held = []
        elif text:
            held = []
    return told


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float | str) else str(value).replace("'", '"')


def main() -> int:
    """Write them, or check that there is nothing to write."""
    stale = []
    for name, make in (("commands", commands), ("settings", settings), ("errors", errors)):
        path, text = FOLDER / f"{name}.md", make()
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                stale.append(path.name)
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(f"not up to date: {', '.join(stale)}; run python tools/make_reference.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
