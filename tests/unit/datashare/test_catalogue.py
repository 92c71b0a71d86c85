"""The policy files, and that a wrong one stops the service."""

import shutil
from importlib import resources
from pathlib import Path

import pytest

from puhui.datashare.v1 import catalogue_pb2, records_pb2
from services.datashare.catalogue.domain import Catalogue, ContentLevel, Fold, SharingMode
from services.datashare.catalogue.loader import CatalogueError, load
from services.datashare.catalogue.servicer import CatalogueServicer
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


def test_code_lists_and_attributes_govern_string_fields(catalogue: Catalogue) -> None:
    for field in records_pb2.Record.DESCRIPTOR.oneofs_by_name["payload"].fields:
        policy = catalogue.types[field.name]
        assert field.message_type
        strings = {
            inner.name
            for inner in field.message_type.fields
            if inner.type == inner.TYPE_STRING and not inner.is_repeated
        }
        assert set(policy.code_lists) <= strings
        assert set(policy.attributes) <= strings


def test_policies(catalogue: Catalogue) -> None:
    open_types = {
        name for name, item in catalogue.types.items() if item.sharing_mode == SharingMode.OPEN
    }
    assert open_types == {"registration", "ip_right", "tech_status", "court_case", "grant"}
    complete = {name for name, item in catalogue.types.items() if item.complete_register}
    assert complete == {"ip_right", "tech_status", "court_case", "grant"}
    assert catalogue.type("vat_invoice").provider_kinds == {"tax"}
    assert catalogue.type("vat_invoice").sensitivity == 3
    assert list(catalogue.type("credit_facility").code_lists["five_class"].codes) == [
        "normal",
        "special_mention",
        "substandard",
        "doubtful",
        "loss",
    ]


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
        ("policies/grant.toml", '"OPEN"', '"ON_CONSENT"', "ON_CONSENT is not enforced yet"),
        (
            "policies/grant.toml",
            "attributes = []",
            "attributes = []\nmood = 1",
            "unknown key `mood`",
        ),
        ("policies/grant.toml", 'fold = "sum"', 'fold = "mean"', "`fold` should be one of"),
        ("policies/grant.toml", '"amount"', '"grants"', "same name"),
        ("policies/grant.toml", '["science"]', '["science", "science"]', "distinct strings"),
        ("policies/court_case.toml", 'zh = "原告", ', "", "codes.plaintiff: `zh` is missing"),
        ("policies/grant.toml", "zh =", "zh", "grant.toml"),
        ("purposes.toml", "max_days = 365", "max_days = 0", "purposes.credit_application"),
        ("purposes.toml", '"SUMMARY"', '"ALL"', "PROFILE, SUMMARY, TRANSACTIONS"),
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
        page = await servicer.ListRecordTypes(
            catalogue_pb2.ListRecordTypesRequest(page_size=4, page_token=token),
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
    purposes = await servicer.ListPurposes(catalogue_pb2.ListPurposesRequest(), None)  # type: ignore[arg-type]  # the servicer does not use the context
    assert [item.max_content_level for item in purposes.purposes] == [3, 2, 2]
