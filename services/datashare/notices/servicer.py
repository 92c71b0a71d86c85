"""NoticeService over gRPC."""

from collections.abc import AsyncIterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from puhui.datashare.v1 import notices_pb2 as pb
from puhui.datashare.v1 import notices_pb2_grpc
from services.datashare.idempotency.servicer import key_of, secret_key_of
from services.datashare.notices.app import Page, TellNotices, Told, no_cursor
from services.datashare.notices.contacts import Contact, Way
from services.datashare.notices.setting import SettleContacts, SettleWebhooks, Shown
from services.datashare.notices.webhooks import WebhookState, shown_secret
from services.datashare.times import stamp_of
from services.kit.errors import InvalidArgumentError
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]


class NoticeServicer(notices_pb2_grpc.NoticeServiceServicer):
    """Translates NoticeService.

    Args:
        tell: the notices.
        webhooks: where they are posted.
        contacts: where firms are told by mail and text message.
        secret: hides addresses and numbers in what is kept of requests.
    """

    def __init__(
        self,
        tell: TellNotices,
        webhooks: SettleWebhooks,
        contacts: SettleContacts,
        secret: bytes,
    ) -> None:
        self._secret = secret
        self._tell = tell
        self._webhooks = webhooks
        self._contacts = contacts

    async def StreamNotices(
        self, request: pb.StreamNoticesRequest, context: _Context
    ) -> AsyncIterator[pb.StreamNoticesResponse]:
        caller = current_caller()
        position = None
        if request.cursor:
            position = _position(await self._tell.party(caller), request.cursor)
        async for page in self._tell.stream(caller, position, follow=request.follow):
            yield pb.StreamNoticesResponse(
                notices=map(_message, page.notices), cursor=_cursor(page)
            )

    async def ListNotices(
        self, request: pb.ListNoticesRequest, context: _Context
    ) -> pb.ListNoticesResponse:
        page = await self._tell.list(current_caller(), page_size(request.page_size))
        return pb.ListNoticesResponse(notices=map(_message, page.notices), cursor=_cursor(page))

    async def AcknowledgeNotices(
        self, request: pb.AcknowledgeNoticesRequest, context: _Context
    ) -> pb.AcknowledgeNoticesResponse:
        caller = current_caller()
        position = _position(await self._tell.party(caller), request.cursor)
        await self._tell.acknowledge(caller, position)
        return pb.AcknowledgeNoticesResponse()

    async def SetWebhook(
        self, request: pb.SetWebhookRequest, context: _Context
    ) -> pb.SetWebhookResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        shown = await self._webhooks.set(caller, key, request.url)
        return pb.SetWebhookResponse(
            webhook=_webhook(shown), secret=shown_secret(shown.webhook.secret)
        )

    async def RemoveWebhook(
        self, request: pb.RemoveWebhookRequest, context: _Context
    ) -> pb.RemoveWebhookResponse:
        caller = current_caller()
        await self._webhooks.remove(caller, key_of(caller, request.request_id, request))
        return pb.RemoveWebhookResponse()

    async def ResumeWebhook(
        self, request: pb.ResumeWebhookRequest, context: _Context
    ) -> pb.ResumeWebhookResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        shown = await self._webhooks.resume(caller, key)
        return pb.ResumeWebhookResponse(webhook=_webhook(shown))

    async def ListWebhooks(
        self, request: pb.ListWebhooksRequest, context: _Context
    ) -> pb.ListWebhooksResponse:
        caller = current_caller()
        bound_to = ("webhooks", caller.participant_id)
        place = decode_page_token(request.page_token, bound_to, (str, str))
        after = (str(place[0]), str(place[1])) if place else None
        page, last = await self._webhooks.list(caller, after, page_size(request.page_size))
        return pb.ListWebhooksResponse(
            webhooks=map(_webhook, page),
            next_page_token=encode_page_token(last, bound_to) if last else "",
        )

    async def SetContact(
        self, request: pb.SetContactRequest, context: _Context
    ) -> pb.SetContactResponse:
        caller, asked = current_caller(), request.contact
        # A number could be found by trying all that give a plain hash.
        key = secret_key_of(caller, request.request_id, request, self._secret)
        contact = await self._contacts.set(caller, key, asked.email, asked.mobile, asked.language)
        return pb.SetContactResponse(contact=_contact(contact))

    async def GetContact(
        self, request: pb.GetContactRequest, context: _Context
    ) -> pb.GetContactResponse:
        contact = await self._contacts.get(current_caller())
        return pb.GetContactResponse(contact=_contact(contact) if contact else None)

    async def ListParkedContacts(
        self, request: pb.ListParkedContactsRequest, context: _Context
    ) -> pb.ListParkedContactsResponse:
        bound_to = ("parked contacts",)
        place = decode_page_token(request.page_token, bound_to, (str,))
        after = str(place[0]) if place else ""
        page, last = await self._contacts.parked(after, page_size(request.page_size))
        return pb.ListParkedContactsResponse(
            contacts=map(_parked, page),
            next_page_token=encode_page_token((last,), bound_to) if last else "",
        )


def _bound_to(party_id: str) -> tuple[str, str]:
    """Return what a cursor is of: all who act for a firm share its notices, and their cursors."""
    return "notices", party_id


def _cursor(page: Page) -> str:
    # Opaque, as positions would tell how much all the others are told.
    return encode_page_token((page.position,), _bound_to(page.party_id)) if page.position else ""


def _position(party_id: str, cursor: str) -> int:
    try:
        place = decode_page_token(cursor, _bound_to(party_id), (int,))
    except InvalidArgumentError:
        raise no_cursor() from None
    return int(place[0]) if place else 0


def _message(told: Told) -> pb.Notice:
    notice, words = told.entry.notice, told.words
    return pb.Notice(
        notice_id=told.entry.notice_id,
        kind=pb.NoticeKind.Value(f"NOTICE_KIND_{notice.kind}"),
        occurred_at=stamp_of(notice.occurred_at),
        subject_id=notice.subject_id,
        consent_id=notice.consent_id,
        dispute_id=notice.dispute_id,
        record_type=notice.record_type,
        participant_id=notice.participant_id,
        mandate_id=notice.mandate_id,
        incident_id=notice.incident_id,
        due_at=stamp_of(notice.due_at) if notice.due_at else None,
        text_zh=words.zh,
        text_en=words.en,
    )


def _webhook(shown: Shown) -> pb.Webhook:
    webhook = shown.webhook
    failing = webhook.failures > 0 and webhook.state is WebhookState.ACTIVE
    return pb.Webhook(
        participant_id=webhook.participant_id,
        url=webhook.url,
        state=pb.WebhookState.Value(f"WEBHOOK_STATE_{webhook.state}"),
        since=stamp_of(webhook.since),
        failures=webhook.failures,
        last_failure=webhook.last_failure,
        next_attempt_at=stamp_of(webhook.next_attempt_at) if failing else None,
        waiting=shown.waiting,
    )


def _contact(contact: Contact) -> pb.Contact:
    return pb.Contact(
        email=contact.mail.to,
        mobile=contact.text.to,
        language=contact.language,
        email_parked=contact.mail.parked,
        mobile_parked=contact.text.parked,
    )


def _parked(contact: Contact) -> pb.ParkedContact:
    return pb.ParkedContact(
        participant_id=contact.participant_id,
        subject_id=contact.subject_id,
        email_refused_since=_refused_since(contact.mail),
        mobile_refused_since=_refused_since(contact.text),
    )


def _refused_since(way: Way) -> Timestamp | None:
    return stamp_of(way.refused_since) if way.parked and way.refused_since else None
