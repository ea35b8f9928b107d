"""The document with which a reduction describes what it read and wrote."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.store.text import storable

_MAX_BYTES = 1_000_000


class BadDocument(NeutronflowError):
    """The reduction document {path} cannot be used: {detail}."""

    code = "bad-reduction-document"


class DocumentedFile(msgspec.Struct, frozen=True):
    """One input or output file."""

    location: Annotated[str, msgspec.Meta(pattern="^/", max_length=4096)]
    type: Literal["raw", "processed", "user-provided", "history"]
    purpose: Annotated[str, msgspec.Meta(pattern="^([a-z0-9]+(-[a-z0-9]+)*)?$", max_length=64)] = ""
    fields: dict[str, str] = {}


class ReductionDocument(msgspec.Struct, frozen=True):
    """The document, as far as the catalog has to understand it."""

    input_files: Annotated[list[DocumentedFile], msgspec.Meta(min_length=1)]
    output_files: Annotated[list[DocumentedFile], msgspec.Meta(min_length=1)]
    version: str = "1.0"
    created: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    user: Annotated[str, msgspec.Meta(pattern="^[a-z0-9]*$", max_length=64)] = ""
    metadata: dict[str, Any] = {}


def read_document(path: Path) -> dict[str, Any]:
    """The checked document as values that the database can hold. Raises :class:`BadDocument`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise BadDocument(path=path, detail=f"it is longer than {_MAX_BYTES} bytes")
        document = msgspec.json.decode(data, type=ReductionDocument)
        found: dict[str, Any] = _storable(msgspec.to_builtins(document))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument(path=path, detail=error) from error
    return found


def _storable(value: Any) -> Any:
    """JSON values with no text in them that PostgreSQL refuses."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value
