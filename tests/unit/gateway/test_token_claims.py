"""What the claims of a token may hold."""

import json

import pytest

from services.gateway import claims
from services.gateway.jws import RefusedTokenError


@pytest.mark.parametrize("said", ["par_1", "张伟", "auth0|5f7c8ec7"])
def test_a_text_is_returned_as_it_is(said: str) -> None:
    assert claims.text({"sub": said}, "sub") == said


# The second is half a character, which no message between services can carry.
@pytest.mark.parametrize(
    "said", ['""', '"\\ud800"', '"par\\u0000_1"', '"a\\nb"', "7", "null", "[]"]
)
def test_what_no_service_could_take_is_refused(said: str) -> None:
    with pytest.raises(RefusedTokenError, match="needs sub"):
        claims.text({"sub": json.loads(said)}, "sub")
