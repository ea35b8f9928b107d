"""Text as PostgreSQL can hold it."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text with its NULs and lone surrogates, which PostgreSQL cannot hold, replaced."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
