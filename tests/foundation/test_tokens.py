from __future__ import annotations

import pytest

from neutronflow.foundation.tokens import TokenRefused, mint, verify


def test_a_token_gives_back_its_claims() -> None:
    token = mint("secret", "plot-upload", {"instrument": "HYS", "run": "1001"}, 60)
    assert verify("secret", "plot-upload", token) == {"instrument": "HYS", "run": "1001"}


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (mint("another secret", "plot-upload", {}, 60), "signature"),
        (mint("secret", "plot-read", {}, 60), "something else"),
        (mint("secret", "plot-upload", {}, -1), "expired"),
        ("nf1.e30", "not one of ours"),
        ("", "not one of ours"),
        ("nf1.e30.\N{SNOWMAN}", "signature"),
    ],
)
def test_other_tokens_are_refused_with_the_reason(token: str, why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        verify("secret", "plot-upload", token)


def test_a_claim_that_was_changed_is_refused() -> None:
    prefix, _payload, signature = mint("secret", "plot-upload", {"run": "1001"}, 60).split(".")
    other_payload = mint("secret", "plot-upload", {"run": "1002"}, 60).split(".")[1]
    with pytest.raises(TokenRefused, match="signature"):
        verify("secret", "plot-upload", f"{prefix}.{other_payload}.{signature}")
