"""What a request_id stands for."""

import pytest

from puhui.datashare.v1 import consents_pb2
from services.datashare.idempotency.domain import require_same
from services.datashare.idempotency.servicer import key_of
from services.kit.errors import AlreadyExistsError
from services.kit.identity import Caller

FIRM = Caller("par_firm", "FIRM", "sub_1")
FIELDS = {"request_id": "r", "consent_id": "con_1", "note": "n"}


def test_the_same_bytes_of_another_method_are_another_call() -> None:
    reject = consents_pb2.RejectConsentRequest(**FIELDS)
    withdraw = consents_pb2.WithdrawConsentRequest(**FIELDS)
    assert reject.SerializeToString() == withdraw.SerializeToString()
    rejected = key_of(FIRM, "r", reject)
    require_same(rejected, key_of(FIRM, "r", reject).fingerprint)
    with pytest.raises(AlreadyExistsError) as caught:
        require_same(rejected, key_of(FIRM, "r", withdraw).fingerprint)
    assert caught.value.reason == "REQUEST_ID_REUSED"
