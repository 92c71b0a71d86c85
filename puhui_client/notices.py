"""What a party is told: by a stream, by asking and acknowledging, or by webhook, mail and text."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from puhui.datashare.v1.notices_pb2 import (
    AcknowledgeNoticesRequest,
    Contact,
    GetContactRequest,
    ListNoticesRequest,
    ListNoticesResponse,
    ListParkedContactsRequest,
    ListWebhooksRequest,
    Notice,
    ParkedContact,
    RemoveWebhookRequest,
    ResumeWebhookRequest,
    SetContactRequest,
    SetWebhookRequest,
    StreamNoticesRequest,
    Webhook,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.consents import Language

if TYPE_CHECKING:
    from puhui.datashare.v1.notices_pb2_grpc import NoticeServiceAsyncStub


class NoticeItem(NamedTuple):
    """Something that the caller is told.

    Args:
        notice: what happened.
        cursor: goes on behind this notice once it and those before it were dealt with; "" is behind
            the last acknowledged one. It may lie a few notices back, which are told again then.
    """

    notice: Notice
    cursor: str


class NewWebhook(NamedTuple):
    """A webhook that was just set.

    Args:
        webhook: where notices are posted.
        secret: for `webhooks.verify`; it is shown here and nowhere else.
    """

    webhook: Webhook
    secret: str


class NoticeMethods(Methods):
    """Methods about notices."""

    _notices: "NoticeServiceAsyncStub"

    async def notices(self, cursor: str = "", *, follow: bool = False) -> AsyncIterator[NoticeItem]:
        """Go through what the caller is told, in the order in which it happened.

        A dropped connection is opened again behind the last notice. Each is told at least once:
        `notice_id` tells whether it was dealt with before.

        Args:
            cursor: of the last notice that was dealt with; "" is of the last acknowledged one.
            follow: wait for what comes; the iterator has no end then.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED, also while following.
            InvalidArgumentError: PAGE_TOKEN_INVALID, the cursor is another's.
            PuhuiError: the platform does not answer any more.
        """
        request = StreamNoticesRequest(cursor=cursor, follow=follow)
        found = self._resumed(self._notices.StreamNotices, request, lambda page: page.notices)
        async for notice, behind in found:
            yield NoticeItem(notice, behind)

    async def waiting_notices(self, *, limit: int = 50) -> ListNoticesResponse:
        """Return the first notices that are not acknowledged, and the cursor behind them.

        Args:
            limit: most notices, up to 500.
        """
        request = ListNoticesRequest(page_size=limit)
        return await self._transport.unary(self._notices.ListNotices, request)

    async def acknowledge_notices(self, cursor: str) -> None:
        """Say that everything up to a cursor was dealt with.

        Args:
            cursor: as the notices gave it.
        """
        request = AcknowledgeNoticesRequest(cursor=cursor)
        await self._transport.unary(self._notices.AcknowledgeNotices, request)

    async def set_webhook(self, url: str, *, request_id: str | None = None) -> NewWebhook:
        """Have the caller's notices posted to an address, in the place of any other.

        Args:
            url: https.
            request_id: None makes one.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            AlreadyExistsError: REQUEST_ID_REUSED, the secret was shown before.
        """
        request = SetWebhookRequest(url=url, request_id=request_id or new_request_id())
        answer = await self._transport.unary(self._notices.SetWebhook, request)
        return NewWebhook(answer.webhook, answer.secret)

    async def remove_webhook(self, *, request_id: str | None = None) -> None:
        """Have nothing posted any more; notices go on waiting for who asks.

        Args:
            request_id: None makes one.
        """
        request = RemoveWebhookRequest(request_id=request_id or new_request_id())
        await self._transport.unary(self._notices.RemoveWebhook, request)

    async def resume_webhook(self, *, request_id: str | None = None) -> Webhook:
        """Let a parked webhook go on, with what waited.

        Args:
            request_id: None makes one.

        Raises:
            NotFoundError: there is none.
        """
        request = ResumeWebhookRequest(request_id=request_id or new_request_id())
        return (await self._transport.unary(self._notices.ResumeWebhook, request)).webhook

    async def webhooks(self) -> AsyncIterator[Webhook]:
        """Go through the caller's webhook; as the operator through all, parked ones first."""
        request = ListWebhooksRequest(page_size=PAGE)
        async for page in self._pages(self._notices.ListWebhooks, request):
            for webhook in page.webhooks:
                yield webhook

    async def set_contact(
        self,
        *,
        email: str = "",
        mobile: str = "",
        language: Language = "zh",
        request_id: str | None = None,
    ) -> Contact:
        """As a firm, set where it is told by mail and text message; with neither, nowhere.

        Args:
            email: an address.
            mobile: a number in E.164, e.g. +8613800000000.
            language: of the sentences.
            request_id: None makes one.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
        """
        contact = Contact(email=email, mobile=mobile, language=language)
        request = SetContactRequest(contact=contact, request_id=request_id or new_request_id())
        return (await self._transport.unary(self._notices.SetContact, request)).contact

    async def contact(self) -> Contact:
        """Return where the firm is told; empty when nothing is set."""
        return (await self._transport.unary(self._notices.GetContact, GetContactRequest())).contact

    async def parked_contacts(self) -> AsyncIterator[ParkedContact]:
        """As the operator, go through contacts whose address or number refuses."""
        request = ListParkedContactsRequest(page_size=PAGE)
        async for page in self._pages(self._notices.ListParkedContacts, request):
            for contact in page.contacts:
                yield contact
