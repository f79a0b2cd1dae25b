"""What the sandbox gateway answers to which token."""

from __future__ import annotations

import pytest

from payments.gateway import Captured, Declined, GatewayUnavailable, sandbox_answer


@pytest.mark.parametrize("token", ["tok_ok", "tok_slow"])
@pytest.mark.parametrize("call", [1, 2])
def test_good_tokens_are_captured_at_every_call(token: str, call: int) -> None:
    assert sandbox_answer(token, call=call, reference="ch_1") == Captured(reference="ch_1")


@pytest.mark.parametrize("call", [1, 2])
def test_declined_token_is_declined_at_every_call(call: int) -> None:
    assert sandbox_answer("tok_declined", call=call, reference="ch_1") == Declined(reason="card_declined")


def test_error_token_fails_once_and_is_captured_then() -> None:
    with pytest.raises(GatewayUnavailable):
        sandbox_answer("tok_error_then_ok", call=1, reference="ch_1")

    assert sandbox_answer("tok_error_then_ok", call=2, reference="ch_1") == Captured(reference="ch_1")


@pytest.mark.parametrize("token", ["tok_unheard_of", "TOK_OK", "4111 1111 1111 1111"])
def test_unknown_token_is_declined(token: str) -> None:
    assert sandbox_answer(token, call=1, reference="ch_1") == Declined(reason="unknown_token")
