"""Content that the law forbids is refused, wherever there is room for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puhui.datashare.v1 import payloads_pb2 as pb
from services.datashare.records.domain import RowProblem
from services.datashare.records.forbidden import check_record_id, screens
from services.datashare.subjects import uscc

LOOK = screens()


def declaration(name: str = "订单", value: str = "", pledge: str = "所填属实") -> pb.Declaration:
    return pb.Declaration(fields=[pb.DeclaredField(name=name, value=value)], pledge=pledge)


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
    ],
)
def test_what_may_never_be_collected_is_refused_in_every_text(text: str) -> None:
    for payload in (declaration(name=text), declaration(value=text), declaration(pledge=text)):
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


def test_a_courts_cause_is_looked_at() -> None:
    LOOK["court_case"](pb.CourtCase(cause="医疗损害责任纠纷"))
    with pytest.raises(RowProblem) as refused:
        LOOK["court_case"](pb.CourtCase(cause="被告患有疾病"))
    assert refused.value.field == "court_case.cause"


@pytest.mark.parametrize("ending", ["", "-1", "/2026"])
def test_a_record_id_names_nobody(ending: str) -> None:
    for number in (uscc.make("91", "110108", "MA000001"), "11010519491231002X"):
        with pytest.raises(RowProblem) as refused:
            check_record_id(number + ending)
        assert refused.value.field == "provider_record_id"
        assert number not in refused.value.message


@given(st.text("0123456789abcdefABCDEF-", max_size=17) | st.uuids().map(lambda id_: id_.hex))
def test_ordinary_ids_come_in(record_id: str) -> None:
    check_record_id(record_id)
