"""Content that the law forbids is refused, wherever there is room for it."""

import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from puhui.datashare.v1 import payloads_pb2 as pb
from services.datashare.catalogue.loader import load
from services.datashare.records.domain import RowProblem
from services.datashare.records.forbidden import check_record_id, screens
from services.datashare.records.payloads import hidden_fields, payload_types
from services.datashare.subjects import uscc

LOOK = screens()
FORBIDDEN = resources.files("services.datashare.records").joinpath("forbidden.toml")


def declaration(
    name: str = "订单", value: str = "", pledge: str = "所填属实", reference: str = ""
) -> pb.Declaration:
    item = pb.DeclaredField(name=name, value=value, person_consent_reference=reference)
    return pb.Declaration(fields=[item], pledge=pledge)


@pytest.mark.parametrize(
    "text",
    [
        "宗教信仰",
        "信仰佛教",
        "法定代表人基因检测结果",
        "指纹",
        "血型: A",
        "血 型",
        "病史",
        "患有高血压",
        "Blood  Type",
        "FINGERPRINT",
        "ＤＮＡ",
        "religious belief",
        "medical history",
        "宗\u200b教信\u00ad仰",
        "finger\ufeffprint",
    ],
)
def test_what_may_never_be_collected_is_refused_in_every_text(text: str) -> None:
    for payload in (
        declaration(name=text),
        declaration(value=text),
        declaration(pledge=text),
        declaration(reference=text),
    ):
        with pytest.raises(RowProblem) as refused:
            LOOK["declaration"](payload)
        assert refused.value.reason == "FORBIDDEN_CONTENT"
        assert text not in refused.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("法定代表人个人存款", "100000"),
        ("备注", "实际控制人名下房产两处"),
        ("owner's income", "1"),
        ("配偶", "工资 20000"),
    ],
)
def test_a_persons_means_need_that_persons_consent(name: str, value: str) -> None:
    payload = declaration(name, value)
    with pytest.raises(RowProblem) as refused:
        LOOK["declaration"](payload)
    assert refused.value.reason == "PERSON_CONSENT_REQUIRED"
    payload.fields[0].person_consent_reference = "2026-114"
    LOOK["declaration"](payload)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("厂房", "自有不动产 2000 平方米"),
        ("纳税", "2025 年纳税 120 万元"),
        ("研发", "基因测序仪三台"),
        ("存款", "公司账户存款 300 万元"),
        ("", ""),
    ],
)
def test_what_a_firm_says_of_itself_comes_in(name: str, value: str) -> None:
    LOOK["declaration"](declaration(name, value))


def test_no_free_text_is_forgotten() -> None:
    """A text is a code, a number, another party that is hidden, public, or looked at."""
    public = {"registration.name", "registration.former_names"}
    numbers = re.compile(r"number|code|meter|chapter|district|industry|(facility|participant)_id")
    hidden = hidden_fields()
    looked_at = tomllib.loads(FORBIDDEN.read_text("utf-8"))
    for name, policy in load().types.items():
        known = {field for field, _ in hidden[name]} | policy.code_lists.keys()
        texts = {
            path
            for path in _texts(payload_types()[name]().DESCRIPTOR)
            if path not in known and not numbers.search(path) and f"{name}.{path}" not in public
        }
        if name == "enquiry":  # the platform's own: a product's and a purpose's code
            texts -= {"product", "purpose"}
        screened = looked_at["texts"].get(name, []) + looked_at["projects"].get(name, [])
        assert texts == set(screened), name


def _texts(message: Any) -> Iterator[str]:
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield field.name
        elif field.message_type and field.message_type.file is message.file:
            yield from (f"{field.name}.{path}" for path in _texts(field.message_type))


def test_a_courts_cause_is_looked_at() -> None:
    LOOK["court_case"](pb.CourtCase(cause="医疗损害责任纠纷"))
    with pytest.raises(RowProblem) as refused:
        LOOK["court_case"](pb.CourtCase(cause="被告患有疾病"))
    assert refused.value.field == "court_case.cause"


@pytest.mark.parametrize(
    "programme", ["指纹识别芯片研发", "遗传病基因检测结果解读平台", "血型试剂"]
)
def test_a_programme_may_be_about_what_is_not_collected(programme: str) -> None:
    LOOK["grant"](pb.Grant(programme=programme))
    with pytest.raises(RowProblem) as refused:
        LOOK["grant"](pb.Grant(programme=f"实际控制人{programme}"))
    assert refused.value.field == "grant.programme"


@pytest.mark.parametrize("form", ["{}", "{}-1", "{}/2026", "{}202601", "inv{}", "a-{}-b"])
def test_a_record_id_names_nobody(form: str) -> None:
    for number in (
        uscc.make("91", "110108", "MA000001"),
        uscc.make("92", "110302", "10000013"),
        "11010519491231002X",
        "511102198001010012",
    ):
        for record_id in (form.format(number), form.format(number.lower())):
            with pytest.raises(RowProblem) as refused:
                check_record_id(record_id)
            assert refused.value.field == "provider_record_id"
            assert number not in refused.value.message.upper()


@pytest.mark.parametrize("form", ["2026{:014}", "{:018}", "25112{:015}", "17{:017}"])
def test_numbers_that_only_look_like_one_come_in(form: str) -> None:
    for count in range(0, 50_000_000, 2_003):
        check_record_id(form.format(count))


@given(st.text("0123456789abcdefABCDEF-", max_size=17) | st.uuids().map(lambda id_: id_.hex))
def test_ordinary_ids_come_in(record_id: str) -> None:
    check_record_id(record_id)
