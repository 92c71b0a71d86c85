"""ProductService on the wire."""

import datetime as dt
import math
from typing import Any, Final

from google.type.date_pb2 import Date

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import consents_pb2
from puhui.scoring.v1 import products_pb2, products_pb2_grpc, scoring_pb2
from services.kit.calls import current_call, current_deadline
from services.kit.identity import IDENTITY_METADATA
from services.kit.pages import decode_page_token, encode_page_token, page_size
from services.kit.status import status_of
from services.kit.telemetry import current_traceparent
from services.scoring.decisions.referrals import STOPPED, referral
from services.scoring.products.app import Answer, Check, ScoreProducts, Terms, Told
from services.scoring.products.domain import DeclaredInput, Need, Product

_STATE: Final = "TYPE_STATE_"


class ProductServicer(products_pb2_grpc.ProductServiceServicer):
    """Tells about score products.

    Args:
        products: the use cases.
    """

    def __init__(self, products: ScoreProducts) -> None:
        self._products = products

    async def ListScoreProducts(
        self, request: products_pb2.ListScoreProductsRequest, context: Any
    ) -> products_pb2.ListScoreProductsResponse:
        limit, bound = page_size(request.page_size), ("score-products",)
        after = decode_page_token(request.page_token, bound, (str,))
        page = self._products.page(str(after[0]) if after else "", limit + 1)
        more = len(page) > limit
        return products_pb2.ListScoreProductsResponse(
            products=map(_product, page[:limit]),
            next_page_token=encode_page_token((page[limit - 1].code,), bound) if more else "",
        )

    async def GetScoreProduct(
        self, request: products_pb2.GetScoreProductRequest, context: Any
    ) -> products_pb2.GetScoreProductResponse:
        product, terms = await self._products.get(request.code)
        answer = products_pb2.GetScoreProductResponse(product=_product(product))
        if terms is not None:
            answer.terms.CopyFrom(_terms(terms))
        return answer

    async def CheckScore(
        self, request: products_pb2.CheckScoreRequest, context: Any
    ) -> products_pb2.CheckScoreResponse:
        return _answer(
            await self._products.check(
                Check(
                    subject_id=request.subject_id,
                    product=request.product,
                    consent_id=request.consent_id,
                    as_of=request.as_of.ToDatetime(tzinfo=dt.UTC)
                    if request.HasField("as_of")
                    else None,
                    officer=request.officer.name,
                    file_reference=request.officer.file_reference,
                    automated_decision=request.automated_decision,
                    identity=current_call().metadata[IDENTITY_METADATA],
                    deadline=current_deadline(),
                    traceparent=current_traceparent(),
                )
            )
        )


def _product(product: Product) -> products_pb2.ScoreProduct:
    return products_pb2.ScoreProduct(
        code=product.code,
        title_zh=product.zh,
        title_en=product.en,
        description_zh=product.description_zh,
        description_en=product.description_en,
        purpose=product.purpose,
        required=map(_need, product.required),
        optional=map(_need, product.optional),
        model_version=product.model,
        declared=map(_input, product.declared),
    )


def _need(need: Need) -> products_pb2.TypeNeed:
    return products_pb2.TypeNeed(record_type=need.record_type, months=need.months)


def _input(stated: DeclaredInput) -> products_pb2.DeclaredInput:
    message = products_pb2.DeclaredInput(
        name=stated.name,
        title_zh=stated.zh,
        title_en=stated.en,
        unit=stated.unit,
        required=stated.required,
    )
    if stated.categories:
        message.category.categories.extend(stated.categories)
    elif math.isfinite(stated.least):
        message.number.least, message.number.most = stated.least, stated.most
    return message


def _terms(terms: Terms) -> consents_pb2.ConsentTerms:
    message = consents_pb2.ConsentTerms(
        purpose=terms.purpose,
        provider_ids=terms.provider_ids,
        record_types=terms.record_types,
        content_level=types_pb2.CONTENT_LEVEL_SUMMARY,
        derived_use=consents_pb2.DerivedUse(
            score=True, automated_decision=terms.automated_decision
        ),
    )
    getattr(message.data_period, "from").CopyFrom(_date(terms.first_day))
    message.data_period.to.CopyFrom(_date(terms.last_day))
    message.expires_at.FromDatetime(terms.expires_at)
    return message


def _date(day: dt.date) -> Date:
    return Date(year=day.year, month=day.month, day=day.day)


def _answer(answer: Answer) -> products_pb2.CheckScoreResponse:
    message = products_pb2.CheckScoreResponse(
        ready=answer.ready,
        types=map(_told, answer.types),
        access_id=answer.access_id,
    )
    if answer.model is not None:
        version, model_class = answer.model
        message.model.version = version
        message.model.model_class = scoring_pb2.ModelClass.Value(f"MODEL_CLASS_{model_class}")
    if answer.refused is not None:
        message.consent_refused.CopyFrom(status_of(answer.refused))
    if answer.terms is not None:
        message.terms.CopyFrom(_terms(answer.terms))
    if answer.stopped_since is not None:
        message.referral.CopyFrom(referral(STOPPED, answer.stopped_since))
    return message


def _told(told: Told) -> products_pb2.TypeCheck:
    judged = told.judged
    return products_pb2.TypeCheck(
        record_type=judged.need.record_type,
        required=told.required,
        state=products_pb2.TypeState.Value(f"{_STATE}{judged.state}"),
        needed_from=judged.needed_from,
        first_month=judged.first_month,
        provider_kinds=told.kinds,
        suffices_zh=told.words.zh,
        suffices_en=told.words.en,
    )
