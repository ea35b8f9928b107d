from __future__ import annotations

from neutronflow.foundation.errors import ConfigurationError, NeutronflowError


class Lost(NeutronflowError):
    """The
    {what} is lost: {detail}."""


def test_the_docstring_is_the_sentence() -> None:
    assert str(Lost(what="run", detail="nobody knows why")) == "The run is lost: nobody knows why."


def test_a_detail_that_is_a_sentence_brings_no_second_full_stop() -> None:
    assert str(Lost(what="run", detail="The disk is full.")) == "The run is lost: The disk is full."
    assert str(Lost(what="run", detail="who knows?")) == "The run is lost: who knows?"
    assert str(Lost(what="../run", detail="and so on..")) == "The ../run is lost: and so on..."


def test_a_missing_field_is_named_and_nothing_raised() -> None:
    assert "without 'detail'" in str(Lost(what="run"))


def test_braces_in_a_field_are_only_text() -> None:
    assert "{evil}" in str(ConfigurationError(where="{evil}", detail="{0.__class__}"))
