"""The document with which a reduction describes what it read and wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from neutronflow.foundation.errors import NeutronflowError

_MAX_BYTES = 1_000_000


class BadDocument(NeutronflowError):
    """The reduction document {path} cannot be used: {detail}."""

    code = "bad-reduction-document"


class DocumentedFile(msgspec.Struct, frozen=True):
    """One input or output file."""

    location: str
    type: str
    purpose: str = ""
    fields: dict[str, str] = {}


class ReductionDocument(msgspec.Struct, frozen=True):
    """The document, as far as the catalog has to understand it."""

    input_files: list[DocumentedFile]
    output_files: list[DocumentedFile]
    version: str = "1.0"
    created: str = ""
    user: str = ""
    metadata: dict[str, Any] = {}


def read_document(path: Path) -> ReductionDocument:
    """Read and check it. Raises :class:`BadDocument`."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadDocument(path=path, detail=f"it is longer than {_MAX_BYTES} bytes")
        document = msgspec.json.decode(path.read_bytes(), type=ReductionDocument)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument(path=path, detail=error) from error
    if not document.input_files or not document.output_files:
        raise BadDocument(path=path, detail="it names no input file, or no output file")
    return document
