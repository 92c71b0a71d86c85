"""The policy files, and that a wrong one stops the service."""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from puhui.datashare.v1 import catalogue_pb2, records_pb2
from services.datashare.catalogue.domain import (
    OCCURRED,
    Catalogue,
    ContentLevel,
    FieldUnit,
    Fold,
    SharingMode,
)
from services.datashare.catalogue.loader import CatalogueError, load
from services.datashare.catalogue.servicer import CatalogueServicer
from services.datashare.records.payloads import hidden_fields
from services.kit.errors import InvalidArgumentError


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with resources.as_file(resources.files("services.datashare.catalogue")) as source:
        shutil.copytree(source, tmp_path / "catalogue")
    return tmp_path / "catalogue"


def test_every_payload_has_a_policy(catalogue: Catalogue) -> None:
    payloads = records_pb2.Record.DESCRIPTOR.oneofs_by_name["payload"].fields
    assert sorted(catalogue.types) == sorted(field.name for field in payloads)


def _units(field: Any) -> set[FieldUnit]:
    """The units that a field of the .proto may have."""
    if field.message_type is not None:
        messages = {"google.type.Money": {FieldUnit.CNY}, "google.type.Date": {FieldUnit.DATE}}
        return messages.get(field.message_type.full_name, {FieldUnit.LIST})
    if field.enum_type is not None:
        return {FieldUnit.CODE}
    kinds = {
        field.TYPE_STRING: {FieldUnit.TEXT, FieldUnit.CODE},
        field.TYPE_BYTES: {FieldUnit.TOKEN},
        field.TYPE_BOOL: {FieldUnit.FLAG},
    }
    numbers = {
        FieldUnit.COUNT,
        FieldUnit.DAYS,
        FieldUnit.PPM,
        FieldUnit.LEVEL,
        FieldUnit.METERED,
    }
    return kinds.get(field.type, numbers)


def test_every_field_has_a_unit_that_fits_it(catalogue: Catalogue) -> None:
    for payload in records_pb2.Record.DESCRIPTOR.oneofs_by_name["payload"].fields:
        policy = catalogue.types[payload.name]
        assert payload.message_type
        stated = {field.name: field.unit for field in policy.fields}
        assert list(stated) == [field.name for field in payload.message_type.fields], payload.name
        for field in payload.message_type.fields:
            assert stated[field.name] in _units(field), field.full_name
            # An enum's codes stand in the .proto; purposes are a table of their own.
            coded = stated[field.name] is FieldUnit.CODE and field.enum_type is None
            listed = field.name in policy.code_lists
            assert coded == (listed or field.full_name.endswith("Enquiry.purpose")), field.full_name
            if field.name.endswith("_ppm"):
                assert stated[field.name] is FieldUnit.PPM


def test_whoever_is_named_is_kept_as_a_token(catalogue: Catalogue) -> None:
    hidden = {
        f"{name}.{party}" for name, parties in hidden_fields().items() for party, _ in parties
    }
    assert hidden == {
        "bank_flow.account",
        "equity_financing.investor",
        "field_visit.officer",
        "guarantee.creditor",
        "guarantee.other_party",
        "officer_change.former",
        "officer_change.successor",
        "pledge.creditor",
        "receivable.buyer",
        "registration.legal_representative",
        "shareholding.holder",
        "technology_contract.other_party",
        "vat_invoice.counterparty",
    }
    tokens = {
        f"{name}.{field.name.removesuffix('_token')}"
        for name, policy in catalogue.types.items()
        for field in policy.fields
        if field.unit is FieldUnit.TOKEN
    }
    assert tokens == hidden


def test_policies(catalogue: Catalogue) -> None:
    open_types = {
        name for name, item in catalogue.types.items() if item.sharing_mode == SharingMode.OPEN
    }
    assert open_types == {
        "abnormal_operation",
        "court_case",
        "enforcement",
        "grant",
        "ip_right",
        "officer_change",
        "penalty",
        "pledge",
        "registration",
        "shareholding",
        "tech_status",
    }
    on_consent = {
        name
        for name, item in catalogue.types.items()
        if item.sharing_mode == SharingMode.ON_CONSENT
    }
    assert on_consent == {
        "bank_flow",
        "customs_declaration",
        "declaration",
        "equity_financing",
        "field_visit",
        "financial_statement",
        "housing_fund",
        "receivable",
        "utility_bill",
    }
    complete = {name for name, item in catalogue.types.items() if item.complete_register}
    assert complete == {
        "abnormal_operation",
        "court_case",
        "enforcement",
        "enquiry",
        "grant",
        "ip_right",
        "officer_change",
        "penalty",
        "pledge",
        "tech_status",
        "technology_contract",
    }
    secret = {name for name, item in catalogue.types.items() if item.sensitivity >= 4}
    assert secret == {"bank_flow", "declaration", "field_visit", "financial_statement"}
    kept = {name for name, item in catalogue.types.items() if item.kept_to_provider}
    assert kept == {"field_visit"}
    assert not catalogue.provider_kinds & {"firm", "bank", "platform"}
    assert {"tax", "utility", "accountant"} <= catalogue.provider_kinds
    assert catalogue.type("vat_invoice").provider_kinds == {"tax"}
    assert catalogue.type("vat_invoice").sensitivity == 3
    assert list(catalogue.type("credit_facility").code_lists["five_class"].codes) == [
        "normal",
        "special_mention",
        "substandard",
        "doubtful",
        "loss",
    ]


def test_a_penalty_is_kept_by_its_severity(catalogue: Catalogue) -> None:
    retention = catalogue.type("penalty").retention
    assert retention.start == "decided"
    assert retention.by_severity == {"minor": 90, "general": 365, "serious": 1095}
    assert retention.until_field == "publish_until"
    assert retention.repaired_field == "repaired_at"
    assert catalogue.type("vat_invoice").retention.start == OCCURRED


def test_findings_that_speak_against_the_firm(catalogue: Catalogue) -> None:
    findings = catalogue.type("field_visit").code_lists["findings"]
    assert findings.adverse < set(findings.codes)
    assert "premises_mismatch" in findings.adverse
    assert not catalogue.type("field_visit").code_lists["conclusion"].adverse


def test_measures_of_invoices(catalogue: Catalogue) -> None:
    measures = catalogue.type("vat_invoice").measures
    kinds = ("valid", "void", "red", "net", "tax", "red_net", "positive_net")
    derived = ("counterparties", "top1", "top5", "hhi", "churn")
    assert {measure.name for measure in measures} == {
        f"{side}_{name}" for side in ("input", "output") for name in kinds + derived
    }
    assert {measure.name.split("_")[1] for measure in measures if measure.fold is Fold.DERIVED} == {
        *derived
    }


def test_purposes(catalogue: Catalogue) -> None:
    assert catalogue.purpose("credit_application").max_content_level == ContentLevel.TRANSACTIONS
    assert catalogue.purpose("model_training").max_days == 1095
    assert catalogue.purposes_version == 3
    for purpose in catalogue.purposes.values():
        # What is fetched for it lies within what a consent for it may run.
        assert purpose.max_data_days >= purpose.max_days
        assert purpose.max_fetches.unit is not None


def test_unknown_names(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidArgumentError) as type_unknown:
        catalogue.type("horoscope")
    assert type_unknown.value.reason == "TYPE_UNKNOWN"
    with pytest.raises(InvalidArgumentError) as purpose_unknown:
        catalogue.purpose("curiosity")
    assert purpose_unknown.value.reason == "PURPOSE_UNKNOWN"


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("policies/grant.toml", "sensitivity = 1", "sensitivty = 1", "`sensitivity` is missing"),
        ("policies/grant.toml", "sensitivity = 1", "sensitivity = 6", "from 1 to 5"),
        ("policies/grant.toml", "sensitivity = 1", "sensitivity = true", "of type int"),
        ("policies/grant.toml", '"OPEN"', '"WIDE_OPEN"', "OPEN, STANDING, ON_CONSENT"),
        (
            "policies/grant.toml",
            "attributes = []",
            "attributes = []\nmood = 1",
            "unknown key `mood`",
        ),
        ("policies/grant.toml", 'fold = "sum"', 'fold = "mean"', "`fold` should be one of"),
        ("policies/grant.toml", '{ name = "amount"', '{ name = "grants"', "same name"),
        (
            "policies/grant.toml",
            '条例"',
            '条例"\nretention_days = 3',
            "unknown key `retention_days`",
        ),
        ("policies/grant.toml", "legal_basis = ", 'legal_basis = "" # ', "`legal_basis` is empty"),
        ("policies/grant.toml", "days = 0", "days = 36501", "from 0 to 36500"),
        (
            "policies/grant.toml",
            "days = 0",
            "weeks = 0",
            "grant.toml: retention: `days` is missing",
        ),
        ("policies/grant.toml", '"occurred"', '"programme"', "no field of unit date"),
        ("policies/grant.toml", '= "amount"\na', '= "programme"\na', "no field of unit CNY"),
        ("policies/grant.toml", '= "amount"\na', '= "sum"\na', "no field of unit CNY"),
        ("policies/grant.toml", "s = []", 's = ["amount"]', "no field of unit code or text"),
        ("policies/grant.toml", '["science"]', "[]", "nobody could supply it"),
        ("policies/grant.toml", '["science"]', '["scienc"]', "`scienc` is not in kinds.toml"),
        ("kinds.toml", 'zh = "税务"', "", "kinds.tax: `zh` is missing"),
        ("policies/grant.toml", 'unit = "CNY"', 'unit = "yuan"', "fields.amount: `unit` should be"),
        ("policies/bank_flow.toml", "days = 1825", "days = 0", "sensitivity 4 and up has an end"),
        ("policies/penalty.toml", "minor = 90\n", "", "codes of `code_lists.severity`"),
        ("policies/penalty.toml", "days = 1095", "days = 365", "less than a day count"),
        ("policies/penalty.toml", "minor = 90", "minor = true", "of type int"),
        ("policies/penalty.toml", '"repaired_at"', '"severity"', "no field of unit date"),
        ("policies/field_visit.toml", "adverse = true", "adverse = 1", "of type bool"),
        ("policies/court_case.toml", "lists.role.", "lists.cause.", "no field of unit code"),
        ("policies/grant.toml", '["science"]', '["science", "science"]', "distinct strings"),
        ("policies/court_case.toml", 'zh = "原告", ', "", "codes.plaintiff: `zh` is missing"),
        ("policies/grant.toml", "zh =", "zh", "grant.toml"),
        ("purposes.toml", "max_days = 365", "max_days = 0", "purposes.credit_application"),
        ("purposes.toml", '"SUMMARY"', '"ALL"', "PROFILE, SUMMARY, TRANSACTIONS"),
        ("purposes.toml", "version = 3", "", "`version`"),
        ("purposes.toml", 'per = "day"', 'per = "week"', "DAY, MONTH, YEAR"),
        ("purposes.toml", "times = 200", "times = 0", "max_fetches"),
        ("purposes.toml", "consequences]\nzh", "consequences]\nzz", "consequences"),
    ],
)
def test_a_wrong_file_is_refused(folder: Path, file: str, old: str, new: str, says: str) -> None:
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CatalogueError, match=says):
        load(folder)


async def test_listing_in_pages(catalogue: Catalogue) -> None:
    servicer = CatalogueServicer(catalogue)
    names: list[str] = []
    token = ""
    for _ in range(3):
        assert token or not names
        page = await servicer.ListRecordTypes(
            catalogue_pb2.ListRecordTypesRequest(page_size=10, page_token=token),
            None,  # type: ignore[arg-type]  # the servicer does not use the context
        )
        names += [item.record_type for item in page.types]
        token = page.next_page_token
    assert names == sorted(catalogue.types)
    assert not token


async def test_a_policy_over_the_wire(catalogue: Catalogue) -> None:
    servicer = CatalogueServicer(catalogue)
    answer = await servicer.GetRecordType(
        catalogue_pb2.GetRecordTypeRequest(record_type="tax_filing"),
        None,  # type: ignore[arg-type]  # the servicer does not use the context
    )
    assert answer.type.sharing_mode == catalogue_pb2.SHARING_MODE_STANDING
    assert answer.type.measures[-1].name == "grade"
    grades = next(codes for codes in answer.type.code_lists if codes.field == "grade")
    assert [code.code for code in grades.codes] == ["A", "B", "M", "C", "D"]
    required = [field.name for field in answer.type.fields if field.required]
    assert required == ["tax_kind", "declared_tax"]
    assert answer.type.control_field == "declared_tax"
    assert answer.type.fields[3].name == "paid"
    assert answer.type.fields[3].unit == "CNY"
    assert answer.type.measures[-1].fold == "latest"
    assert answer.type.retention.days == answer.type.retention_days == 10950
    assert not answer.type.retention.from_field
    purposes = await servicer.ListPurposes(catalogue_pb2.ListPurposesRequest(), None)  # type: ignore[arg-type]  # the servicer does not use the context
    assert [item.max_content_level for item in purposes.purposes] == [3, 2, 2, 2]
    credit = purposes.purposes[0]
    named = [item.code for item in purposes.purposes if item.for_another_firm]
    assert named == ["related_party"]
    assert (credit.max_fetches, credit.max_fetches_per, purposes.version) == (200, "day", 3)
    assert credit.consequences.en.startswith("The institution decides")


async def test_a_retention_over_the_wire(catalogue: Catalogue) -> None:
    answer = await CatalogueServicer(catalogue).GetRecordType(
        catalogue_pb2.GetRecordTypeRequest(record_type="penalty"),
        None,  # type: ignore[arg-type]  # the servicer does not use the context
    )
    assert answer.type.retention == catalogue_pb2.Retention(
        days=1095,
        from_field="decided",
        days_by_severity={"minor": 90, "general": 365, "serious": 1095},
        until_field="publish_until",
        repaired_field="repaired_at",
    )


@pytest.mark.parametrize(
    ("record_type", "needed"),
    [
        ("vat_invoice", ["number", "side", "net", "tax", "gross", "status"]),
        ("ip_right", ["kind", "ip_class", "status"]),
        ("field_visit", ["officer", "visited_at", "findings"]),
        ("social_insurance", ["headcount"]),
    ],
)
async def test_which_fields_are_needed(
    catalogue: Catalogue, record_type: str, needed: list[str]
) -> None:
    answer = await CatalogueServicer(catalogue).GetRecordType(
        catalogue_pb2.GetRecordTypeRequest(record_type=record_type),
        None,  # type: ignore[arg-type]  # the servicer does not use the context
    )
    assert [field.name for field in answer.type.fields if field.required] == needed
