"""Score products: what is shipped, what an order may declare, what is missing for a score."""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.clock import FixedClock
from services.kit.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from services.scoring.features import registry
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.features.firm import OPTIONAL, lookback
from services.scoring.products.app import Check, Look, ScoreProducts, Supply
from services.scoring.products.domain import (
    GOOD,
    Asked,
    Declared,
    DeclaredInput,
    Found,
    Need,
    Product,
    State,
    check_model,
    check_order,
    judge,
    lacking,
    suffices,
)
from services.scoring.products.loader import RECORD_TYPES, ProductError, load
from services.scoring.registry.domain import Stop
from tests.fakes.decisions import AddingModel, FakeModels
from tests.fakes.products import FakePlatform

DAY: Final = dt.date(2026, 5, 20)
NOW: Final = dt.datetime(2026, 5, 20, tzinfo=dt.UTC)
AMOUNT: Final = DeclaredInput("amount", "金额", "Amount", "CNY", least=1, most=1000)
KIND: Final = DeclaredInput("kind", "类别", "Kind", "code", required=True, categories=("a", "b"))
PRODUCT: Final = Product(
    "p",
    "产品",
    "Product",
    "",
    "",
    "credit_application",
    (Need("vat_invoice", 12),),
    (Need("tax_filing"), Need("court_case"), Need("utility_bill")),
    declared=(AMOUNT, KIND),
)


class TestShipped:
    def test_names_every_type_that_features_need(self) -> None:
        """Data that a model would use must be asked for, and said to be used."""
        needed = {name for feature in registry.FEATURES for name in feature.needs}
        named = {need.record_type for need in load()["tech_credit"].needs}
        assert named >= needed

    def test_requires_what_every_score_requires(self) -> None:
        for product in load().values():
            required = {need.record_type for need in product.required}
            assert required >= set(registry.REQUIRED)
            assert {need.record_type for need in product.needs} <= RECORD_TYPES


GOOD_FILE: Final = """
[mine]
zh = "我"
en = "Mine"
description_zh = "我"
description_en = "Mine"
purpose = "credit_application"
required = { vat_invoice = 12 }
optional = ["tax_filing"]
model = "m-1"
[mine.declared.amount]
zh = "金额"
en = "Amount"
unit = "CNY"
range = [1, 10]
"""


def own(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "products.toml"
    file.write_text(text, "utf-8")
    return file


class TestFile:
    def test_an_operator_adds_products(self, tmp_path: Path) -> None:
        found = load(own(tmp_path, GOOD_FILE))
        assert set(found) == {*load(), "mine"}
        mine = found["mine"]
        assert (mine.required, mine.optional) == ((Need("vat_invoice", 12),), (Need("tax_filing"),))
        assert (mine.model, mine.declared[0].most) == ("m-1", 10.0)

    @pytest.mark.parametrize(
        ("said", "instead", "problem"),
        [
            ("[mine]", "[tech_credit]", "tech_credit is a shipped product"),
            ("[mine]", "[Mine]", "[Mine] is no code"),
            ('zh = "我"', "", "zh is missing"),
            ("vat_invoice = 12", "vat = 12", "required.vat is no record type"),
            ("vat_invoice = 12", "vat_invoice = 61", "is not a number of months from 0 to 60"),
            ("vat_invoice = 12", "vat_invoice = true", "is not a number of months"),
            ('["tax_filing"]', '["vat_invoice"]', "vat_invoice is required and optional"),
            ('["tax_filing"]', '"tax_filing"', "optional is not a list of types"),
            ("required = { vat_invoice = 12 }", "", "required names no record type"),
            ('model = "m-1"', "model = 1", "model is not a text"),
            ('model = "m-1"', "modle = 1", "modle is no key: there are declared,"),
            ("range = [1, 10]", "", "has to have one of range"),
            ("range = [1, 10]", "range = [10, 1]", "range is not two numbers"),
            ("range = [1, 10]", "range = [1, inf]", "range is not two numbers"),
            ("range = [1, 10]", f"range = [1, {10**400}]", "range is not two numbers"),
            ("range = [1, 10]", f'categories = ["{"a" * 65}"]', "more than 64 letters"),
            ("range = [1, 10]", 'categories = ["a", "a"]', "is not a list of different texts"),
            ("range = [1, 10]", 'range = [1, 10]\ncategories = ["a"]', "has to have one of range"),
            ("range = [1, 10]", "range = [1, 10]\nrequired = 1", "required is not true or false"),
            ('unit = "CNY"', "", "declared.amount unit is missing"),
            ("[mine]", "[mine", "is not TOML"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(
        self, tmp_path: Path, said: str, instead: str, problem: str
    ) -> None:
        assert said in GOOD_FILE
        text = GOOD_FILE
        if instead.startswith("[") and instead.endswith("]") and said == "[mine]":
            text = text.replace("[mine.", f"{instead[:-1]}.")
        with pytest.raises(ProductError) as error:
            load(own(tmp_path, text.replace(said, instead, 1)))
        assert problem in str(error.value)

    def test_no_more_is_declared_than_an_order_takes(self, tmp_path: Path) -> None:
        inputs = (
            f'[mine.declared.x{at}]\nzh = "甲"\nen = "x"\nunit = "CNY"\nrange = [0, 1]\n'
            for at in range(64)
        )
        with pytest.raises(ProductError, match="declared has 65 inputs"):
            load(own(tmp_path, "\n".join([GOOD_FILE, *inputs])))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ProductError, match="cannot be read"):
            load(tmp_path / "none.toml")


def refused(
    *declared: Declared, purpose: str = "credit_application", version: str = ""
) -> set[str]:
    try:
        check_order(PRODUCT, purpose, version, "m-1", declared)
    except InvalidArgumentError as error:
        return {each.field for each in error.fields}
    return set()


def problem_of(declared: list[Declared]) -> InvalidArgumentError | None:
    try:
        check_order(PRODUCT, PRODUCT.purpose, "", "m-1", declared)
    except InvalidArgumentError as error:
        return error
    return None


class TestOrder:
    def test_one_that_is_as_its_product_says(self) -> None:
        assert refused(Declared("amount", 5.0), Declared("kind", "a"), version="m-1") == set()
        check_order(None, "anything", "m-9", "", ())

    @pytest.mark.parametrize(
        ("declared", "field"),
        [
            ([Declared("amount", 0.5)], "order.declared[0].number"),
            ([Declared("amount", 1000.5)], "order.declared[0].number"),
            ([Declared("amount", "a")], "order.declared[0].category"),
            ([Declared("kind", 1.0)], "order.declared[0].number"),
            ([Declared("kind", "c")], "order.declared[0].category"),
            ([Declared("pd", 0.1)], "order.declared[0].name"),
            ([Declared("kind", "a"), Declared("kind", "b")], "order.declared[1].name"),
            ([], "order.declared"),
        ],
    )
    def test_each_problem_is_a_field_s(self, declared: list[Declared], field: str) -> None:
        assert field in refused(*declared)

    def test_purpose_and_model_are_the_product_s(self) -> None:
        found = refused(Declared("kind", "a"), purpose="portfolio_review", version="m-2")
        assert found == {"order.purpose", "order.model_version"}

    def test_without_a_product_nothing_is_declared(self) -> None:
        with pytest.raises(InvalidArgumentError):
            check_order(None, "credit_application", "", "", [Declared("amount", 5.0)])

    @given(
        st.lists(
            st.builds(
                Declared,
                st.sampled_from(["amount", "kind", "other"]),
                st.floats() | st.sampled_from(["a", "b", "c", ""]) | st.text(max_size=8),
            ),
            max_size=4,
        )
    )
    def test_what_passes_is_what_the_product_states(self, declared: list[Declared]) -> None:
        """Whatever is sent, nothing but values of the product's names, kinds and ranges passes."""
        refusal = problem_of(declared)
        if refusal is not None:
            said = [each.value for each in declared if isinstance(each.value, str)]
            # Messages are logged, and must not hold what was sent.
            assert not any(repr(value) in refusal.message for value in said)
            return
        values = {each.name: each.value for each in declared}
        assert len(values) == len(declared)
        assert values.pop("kind") in KIND.categories
        amount = values.pop("amount", 1.0)
        assert isinstance(amount, float)
        assert AMOUNT.least <= amount <= AMOUNT.most
        assert not values

    @pytest.mark.parametrize(
        ("asked", "good"),
        [
            (Asked("CNY"), True),
            (Asked("fen"), False),
            (Asked("CNY", ("a",)), False),
        ],
    )
    def test_a_model_must_read_inputs_as_the_product_states_them(
        self, asked: Asked, good: bool
    ) -> None:
        if good:
            check_model(PRODUCT, {"amount": asked})
            return
        with pytest.raises(NotFoundError, match="amount"):
            check_model(PRODUCT, {"amount": asked})


def invoices(first: int, opens: dt.date | None = None) -> FirmSummary:
    series = SubjectSeries("vat_invoice", "par_tax", (first, 202604), {"output_net": (1, 1)})
    period = None if opens is None else (opens, DAY)
    return FirmSummary((series,), {"vat_invoice": Coverage.SUPPLIED}, period)


class TestLacking:
    @pytest.mark.parametrize(
        ("summary", "state"),
        [
            (invoices(202505), None),
            (invoices(202506), State.HISTORY_TOO_SHORT),
            (invoices(202505, dt.date(2025, 5, 1)), None),
            (invoices(202505, dt.date(2025, 5, 2)), State.PERIOD_TOO_SHORT),
            (FirmSummary((), {"vat_invoice": Coverage.NOT_CONSENTED}), State.NOT_CONSENTED),
            (FirmSummary((), {}), State.NOT_SUPPLIED),
        ],
    )
    def test_of_twelve_months_of_invoices(self, summary: FirmSummary, state: State | None) -> None:
        found = lacking(PRODUCT.required, summary, DAY)
        assert [judged.state for judged in found] == ([] if state is None else [state])
        assert all(suffices(judged).en and suffices(judged).zh for judged in found)

    def test_history_that_grows_suffices_when_it_was_said_to(self) -> None:
        (judged,) = lacking(PRODUCT.required, invoices(202509), DAY)
        assert "wait until 2026-09" in suffices(judged).en
        assert lacking(PRODUCT.required, invoices(202509), dt.date(2026, 8, 30))
        assert not lacking(PRODUCT.required, invoices(202509), dt.date(2026, 9, 1))

    @given(st.dates(dt.date(2020, 1, 1), dt.date(2030, 12, 31)), st.sampled_from(OPTIONAL))
    def test_the_period_that_is_asked_for_is_what_features_look_back_on(
        self, day: dt.date, record_type: str
    ) -> None:
        """An optional source that is opened less far counts as withheld: a check says the same."""
        first, _ = lookback(day)
        found = Found(Coverage.SUPPLIED, 202001)
        for opens, state in (
            (first, State.SUPPLIED),
            (first + dt.timedelta(days=1), State.PERIOD_TOO_SHORT),
        ):
            assert judge(Need(record_type), found, day, opens, is_open=False).state is state
        assert judge(Need(record_type), found, day, None, is_open=False).state is State.SUPPLIED

    def test_a_complete_register_s_answer_is_one(self) -> None:
        none = Found(Coverage.NONE_EXISTS)
        assert judge(Need("court_case"), none, DAY, None, is_open=True).state in GOOD
        assert judge(Need("court_case", 6), none, DAY, None, is_open=True).state not in GOOD


def supply(kind: str, *, is_open: bool = False, supplied: bool = True) -> Supply:
    return Supply(is_open, (kind,), (f"par_{kind}",), supplied, f"{kind}数据", f"{kind} data")


def look(opens: dt.date, **types: Found) -> Look:
    return Look("acc_1", NOW, opens, types)


OPEN_LOOK: Final = look(
    dt.date(2021, 6, 1),
    vat_invoice=Found(Coverage.NOT_CONSENTED),
    tax_filing=Found(Coverage.NOT_CONSENTED),
    utility_bill=Found(Coverage.NOT_CONSENTED),
    court_case=Found(Coverage.NONE_EXISTS),
)


class World:
    def __init__(self) -> None:
        self.platform = FakePlatform(
            {
                "vat_invoice": supply("tax"),
                "tax_filing": supply("tax"),
                "court_case": supply("court", is_open=True),
                "utility_bill": supply("grid", supplied=False),
            },
            {
                "": OPEN_LOOK,
                "con_1": look(
                    dt.date(2023, 5, 1),
                    vat_invoice=Found(Coverage.SUPPLIED, 202301),
                    tax_filing=Found(Coverage.SUPPLIED, 202301),
                    utility_bill=Found(Coverage.NOT_CONSENTED),
                    court_case=Found(Coverage.SUPPLIED, 202502),
                ),
                "con_over": FailedPreconditionError("CONSENT_EXPIRED", "over"),
            },
        )
        self.models = FakeModels({"v1": AddingModel("v1")}, "v1")
        products = {"p": PRODUCT}
        self.products = ScoreProducts(products, self.platform, self.models, FixedClock(NOW))

    def check(self, consent_id: str = "", product: str = "p") -> Check:
        return Check("sub_1", product, consent_id, None, "王", "F-1", False, "assertion", 5.0, "")


@pytest.fixture
def world() -> World:
    return World()


class TestCheck:
    async def test_without_consent_only_what_is_open_is_told(self, world: World) -> None:
        answer = await world.products.check(world.check())
        assert not answer.ready
        assert {told.judged.need.record_type: told.judged.state for told in answer.types} == {
            "vat_invoice": State.NOT_CONSENTED,
            "tax_filing": State.NOT_CONSENTED,
            "court_case": State.NONE_EXISTS,
            # Nobody supplies it at all: no consent would help.
            "utility_bill": State.NOT_SUPPLIED,
        }
        assert all(told.judged.first_month == 0 for told in answer.types)
        assert [told.required for told in answer.types] == [True, False, False, False]
        assert answer.access_id == "acc_1"
        assert answer.model == ("v1", "SIMULATED")

    async def test_the_terms_drafted_make_the_same_check_ready(self, world: World) -> None:
        answer = await world.products.check(world.check())
        terms = answer.terms
        assert terms is not None
        # Open types need none, and what nobody supplies is not asked for.
        assert terms.record_types == ("vat_invoice", "tax_filing")
        assert terms.provider_ids == ("par_tax",)
        assert terms.first_day == dt.date(2023, 5, 1)
        assert terms.last_day > DAY
        world.platform.looks["con_1"] = dataclasses.replace(
            world.platform.looks["con_1"],  # type: ignore[type-var]  # it is a Look
            opens=terms.first_day,
        )
        ready = await world.products.check(world.check("con_1"))
        assert ready.ready
        states = [told.judged.state for told in ready.types]
        assert states == [State.SUPPLIED, State.SUPPLIED, State.OPEN, State.NOT_SUPPLIED]
        assert ready.terms is None

    async def test_a_consent_that_does_not_hold_is_told_and_opens_nothing(
        self, world: World
    ) -> None:
        answer = await world.products.check(world.check("con_over"))
        assert answer.refused is not None
        assert answer.refused.reason == "CONSENT_EXPIRED"
        assert not answer.ready
        assert world.platform.asked == [
            ("con_over", "credit_application"),
            ("", "credit_application"),
        ]
        assert answer.types[0].judged.state is State.NOT_CONSENTED
        assert answer.terms is not None

    async def test_other_refusals_refuse_the_check(self, world: World) -> None:
        world.platform.looks["con_1"] = InvalidArgumentError("OFFICER_REQUIRED", "name who asks")
        with pytest.raises(InvalidArgumentError):
            await world.products.check(world.check("con_1"))

    async def test_while_scoring_is_stopped_nothing_is_ready(self, world: World) -> None:
        world.models.stop = Stop("evt_1", "*", NOW, "drift")
        answer = await world.products.check(world.check("con_1"))
        assert (answer.ready, answer.model, answer.stopped_since) == (False, None, NOW)

    async def test_a_product_that_is_none(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            await world.products.check(world.check(product="q"))

    async def test_where_nobody_could_supply_there_are_no_terms(self, world: World) -> None:
        for name, each in world.platform.types.items():
            world.platform.types[name] = dataclasses.replace(each, provider_ids=())
        assert await world.products.get("p") == (PRODUCT, None)
