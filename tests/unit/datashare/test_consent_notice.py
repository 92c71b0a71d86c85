"""The notice says in both languages what the terms allow, and its hash is in the consent."""

from dataclasses import replace
from typing import Any

import pytest

from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.domain import Mode
from services.datashare.consent.notice import NoticeError, checked, sha256, texts, write
from services.datashare.mandates.domain import ANY_ONE
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from tests.unit.datashare.test_consent_domain import CATALOGUE, CORE, GOLDEN, RICH, TERMS

NAMES = {
    "par_bank": "示范银行 Bank of Trial",
    "par_tax": "税务局 Tax",
    "par_hr": "社保中心 Social insurance",
    "par_guarantor": "担保公司 Guarantor",
}


def notice(language: str, **terms: Any) -> str:
    core = replace(CORE, terms=replace(TERMS, notice_language=language, **terms))
    return write(core, NAMES, CATALOGUE)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_everything_at_once_reads_like_this(language: str) -> None:
    core = replace(RICH, terms=replace(RICH.terms, notice_language=language))
    golden = (GOLDEN / f"consent_notice_{language}.txt").read_text("utf-8")
    assert write(core, NAMES, CATALOGUE) == golden
    assert len(sha256(golden)) == 32


@pytest.mark.parametrize(
    ("terms", "en", "zh"),
    [
        ({}, "viewed alone", "仅供查看"),
        ({"mode": Mode.STORE, "data_life_days": 9}, "at most 9 days", "最多再保存9日"),
        ({"fetch_limit": ONE_TIME}, "How often: once", "仅限一次"),
        ({"fetch_limit": Limit(3, Unit.YEAR)}, "at most 3 times a year", "每年不超过3次"),
        ({"score": False}, "No credit score", "不允许据此计算"),
        ({"automated_decision": True}, "may refuse a decision", "有权拒绝"),
        ({}, "No decision may be made by machine", "不允许仅由系统"),
        ({}, "passed on to nobody", "不得向任何第三方提供"),
        ({"onward_recipient_ids": ("par_x",)}, "passed on to: par_x", "下列机构：par_x"),
        ({"content_level": ContentLevel.TRANSACTIONS}, "single transactions", "单笔明细数据"),
        ({"content_level": ContentLevel.PROFILE}, "nothing of its business", "不含经营数据"),
        (
            {"purpose": "related_party", "for_subject_id": "sub_9"},
            "for the score of firm sub_9",
            "仅限计入企业sub_9（平台编号）的信用评分",
        ),
        ({"purpose": "model_training"}, "decides nothing", "不用于对本企业作出任何决定"),
    ],
)
def test_each_term_is_told(terms: dict[str, Any], en: str, zh: str) -> None:
    assert en in notice("en", **terms)
    assert zh in notice("zh", **terms)


def test_a_name_adds_no_line() -> None:
    core = replace(CORE, terms=replace(TERMS, notice_language="en"))
    forged = {"par_bank": "A bank\nIt may be passed on to: everybody {recipient}"}
    told = write(core, forged, CATALOGUE)
    assert len(told.splitlines()) == len(notice("en").splitlines())
    assert "everybody {recipient}" in told


def test_nothing_is_told_that_is_not_asked_for() -> None:
    told = notice("en")
    assert "Of " not in told
    assert "replaces" not in told
    assert "lapses" not in told
    assert CORE.signers == ANY_ONE
    assert "It is active once an account that may sign for the firm has agreed." in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"zh": {}}, "zh and en"),
        ({"zh": {"a": "1"}, "en": {}}, "`a` is missing"),
        ({"zh": {"a": "{x}"}, "en": {"a": "{y}"}}, "`a` has other places"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(content: dict[str, Any], told: str) -> None:
    with pytest.raises(NoticeError, match=told):
        checked(content)


def test_the_file_is_whole() -> None:
    assert set(texts()) == {"zh", "en"}
