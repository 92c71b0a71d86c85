"""What the OpenAPI document says where the .proto files need no comment: names and examples.

Fields of one name mean one thing all over Puhui, so that a name has one description and one
example. The names in the examples are made up; the registration number passes its check.
"""

from collections.abc import Mapping
from typing import Any, Final

FIELDS: Final[Mapping[str, str]] = {
    "request_id": "Of the caller's choice: the same again is the same write, done once.",
    "page_token": "The next_page_token of the page before; empty is the first page.",
    "page_size": "How many at most; 0 is the default.",
    "next_page_token": "Where the list goes on; empty on the last page.",
    "participant_id": "The participant's id.",
    "provider_id": "The provider's id, that of a participant.",
    "subject_id": "The firm's opaque id.",
    "record_type": "A type of the catalogue.",
    "record_types": "Types of the catalogue.",
    "consent_id": "The consent's id.",
    "dispute_id": "The dispute's id.",
    "decision_id": "The decision's id.",
    "delivery_id": "The provider's name of the delivery.",
    "incident_id": "The incident's id.",
    "proposal_id": "The proposal's id.",
    "mandate_id": "The mandate's id.",
    "review_id": "The review's id.",
    "credential_id": "The credential's id.",
    "key_id": "The key's id.",
    "officer": "Who of the institution asks, and for which file.",
    "purpose": "Code of the table of purposes.",
    "state": "Where it stands.",
    "reason": "Why.",
    "note": "In the caller's words.",
    "uscc": "The unified social credit code 统一社会信用代码.",
    "from": "The first day.",
    "to": "The last day.",
    "version": "The version.",
}

EXAMPLES: Final[Mapping[str, Any]] = {
    "request_id": "2026-11-23-0001",
    "participant_id": "par_01JDCX7Q3V",
    "provider_id": "par_01JDCX9T5M",
    "provider_ids": ["par_01JDCX9T5M"],
    "subject_id": "sub_01JDCXB2K8",
    "consent_id": "con_01JDCXD4RN",
    "dispute_id": "dis_01JDCXF6WP",
    "decision_id": "dec_01JDCXH8YQ",
    "delivery_id": "2026-11-23-tax",
    "record_type": "vat_invoice",
    "record_types": ["vat_invoice"],
    "purpose": "credit_application",
    "uscc": "91110108MA01TE5T3U",
    "name": "示例科技有限公司",
    "file_reference": "A-17",
    "note": "as agreed",
    "currency_code": "CNY",
    "units": "1000",
    "year": 2025,
    "month": 6,
    "day": 30,
    "page_size": 50,
}
"""By a field's name, in JSON; a field that is not here has what its kind and its rules suggest."""

TIME: Final = "2026-11-23T08:00:00Z"
