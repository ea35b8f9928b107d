"""XML from the stream, parsed safely: without document types or entities of its own, bounded in size."""

from __future__ import annotations

from xml.etree import ElementTree

MAX_XML_CHARACTERS = 16 * 1024 * 1024


def parse_xml(text: str) -> ElementTree.Element:
    """The root element, with tags stripped of their name spaces. Raises ValueError saying what is wrong."""
    if len(text) > MAX_XML_CHARACTERS:
        raise ValueError(f"the XML has {len(text)} characters, more than {MAX_XML_CHARACTERS}")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("the XML brings a document type of its own")
    try:
        # Without DTDs there is nothing to expand; expat is safe then.
        root = ElementTree.fromstring(text.rstrip("\0").strip())  # noqa: S314
    except (ElementTree.ParseError, UnicodeEncodeError) as error:
        raise ValueError(f"it is no XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def child_text(parent: ElementTree.Element, tag: str) -> str:
    """The text of the first child of that name; empty where there is none."""
    child = parent.find(tag)
    return (child.text or "") if child is not None else ""


def last_child_text(parent: ElementTree.Element, tag: str) -> str | None:
    """The text of the last child of that name, which holds where a description repeats itself; None where there is none."""
    found = [child.text or "" for child in parent if child.tag == tag]
    return found[-1] if found else None
