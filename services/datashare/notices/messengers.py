"""Adapters that send mails and text messages, and the configuration of all that tells parties.

Mail goes by the standard library's SMTP client, in threads of its own so that a mail server that
hangs holds up nothing else: there are a few messages an hour and firm, and another dependency would
save nothing. A text message is one JSON POST to the gateway of
whoever sends them; gateways that want another shape take a small proxy in between.
"""

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Final

import httpx2
import orjson
import structlog
from opentelemetry.metrics import Meter

from services.datashare.notices.contacts import Message, MessageError
from services.kit.clock import Clock
from services.kit.config import ConfigError

_TIMEOUT_S: Final = 20.0
_MAILERS: Final = 8
_NUMBER_REFUSED: Final = (400, 422)
"""Statuses by which a gateway says that it is the number which it does not take."""
_TLS: Final = ("starttls", "tls", "none")


@dataclass(frozen=True)
class NoticesConfig:
    """Configuration of how parties are told, section `datashare.notices`.

    Args:
        private_receivers: whether webhooks may be on private addresses, and on loopback by http.
        message_folder: for a sandbox: messages are files in it; then nothing is sent.
        smtp_host: the mail server; empty sends no mail.
        smtp_port: its port.
        smtp_tls: "starttls", "tls" or "none".
        smtp_user: at the mail server; empty is without.
        smtp_password: file with the password.
        mail_from: the sender's address.
        sms_url: of the gateway for text messages; empty sends none.
        sms_token: file with the token that it is shown.
    """

    private_receivers: bool = field(
        default=False,
        metadata={"help": "let webhooks be on private addresses; for a sandbox"},
    )
    message_folder: Path | None = field(
        default=None, metadata={"help": "write messages to firms into it; for a sandbox"}
    )
    smtp_host: str = field(default="", metadata={"help": "mail server; empty sends no mail"})
    smtp_port: int = field(default=587, metadata={"help": "port of the mail server"})
    smtp_tls: str = field(default="starttls", metadata={"help": "starttls, tls or none"})
    smtp_user: str = field(default="", metadata={"help": "user at the mail server; empty: none"})
    smtp_password: Path | None = field(
        default=None, metadata={"help": "file with the password at the mail server"}
    )
    mail_from: str = field(default="", metadata={"help": "address from which mail is sent"})
    sms_url: str = field(
        default="", metadata={"help": "gateway for text messages; empty sends none"}
    )
    sms_token: Path | None = field(
        default=None, metadata={"help": "file with the token for that gateway"}
    )

    def __post_init__(self) -> None:
        if self.smtp_tls not in _TLS:
            raise ValueError(f"smtp_tls must be one of {', '.join(_TLS)}")
        if self.smtp_host and not self.mail_from:
            raise ValueError("mail_from must be set where smtp_host is")
        if self.smtp_user and self.smtp_tls == "none":
            raise ValueError("smtp_tls must not be none where smtp_user is set")
        if self.sms_url and not self.sms_url.startswith("https://"):
            raise ValueError("sms_url must begin with https://")

    @property
    def sends(self) -> bool:
        """Whether there is any way to send messages."""
        return bool(self.message_folder or self.smtp_host or self.sms_url)


class FolderMessenger:
    """Writes messages into a folder, one file each; the same message twice is one file.

    Args:
        folder: made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def mail(self, message: Message) -> None:
        """Write a mail."""
        await asyncio.to_thread(self._write, message, "mail")

    async def text(self, message: Message) -> None:
        """Write a text message."""
        await asyncio.to_thread(self._write, message, "text")

    async def close(self) -> None:
        """Nothing is open."""

    def _write(self, message: Message, kind: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        head = f"To: {message.to}\nSubject: {message.subject}\n\n"
        pending = self._folder / f".{message.message_id}.{kind}"
        pending.write_text(head + message.text, encoding="utf-8")
        pending.replace(self._folder / f"{message.message_id}.{kind}.txt")


class NetworkMessenger:
    """Sends mail by SMTP, and text messages by an HTTP gateway; what is not configured is left out.

    Args:
        config: of both.
        clock: dates mails.
        transport: for tests; None is the network.

    Raises:
        ConfigError: a file cannot be read.
    """

    def __init__(
        self,
        config: NoticesConfig,
        clock: Clock,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._password = _read("datashare.notices.smtp_password", config.smtp_password)
        self._token = _read("datashare.notices.sms_token", config.sms_token)
        self._client = httpx2.AsyncClient(timeout=_TIMEOUT_S, transport=transport)
        self._mailers = ThreadPoolExecutor(_MAILERS, thread_name_prefix="mail")

    async def mail(self, message: Message) -> None:
        """Send a mail; returns when the server took it.

        Raises:
            MessageError: it did not.
        """
        if self._config.smtp_host:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._mailers, self._mail, message)

    async def text(self, message: Message) -> None:
        """Send a text message; returns when the gateway took it.

        Raises:
            MessageError: it did not.
        """
        if not self._config.sms_url:
            return
        body = orjson.dumps({"id": message.message_id, "to": message.to, "text": message.text})
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            response = await self._client.post(self._config.sms_url, content=body, headers=headers)
        except httpx2.HTTPError as error:
            raise MessageError(f"the gateway for text messages: {type(error).__name__}") from None
        if not response.is_success:
            status = response.status_code
            why = f"the gateway for text messages answered with status {status}"
            raise MessageError(why, refused=status in _NUMBER_REFUSED)

    async def close(self) -> None:
        """Close its connections."""
        self._mailers.shutdown(wait=False, cancel_futures=True)
        await self._client.aclose()

    def _mail(self, message: Message) -> None:
        config = self._config
        mail = EmailMessage()
        mail["From"] = config.mail_from
        mail["To"] = message.to
        mail["Subject"] = message.subject
        mail["Date"] = formatdate(self._clock.now().timestamp())
        # The same in every attempt, so that a mailbox may know it again.
        mail["Message-ID"] = f"<{message.message_id}@{config.mail_from.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text, cte="base64")  # any server can pass that on
        context = ssl.create_default_context()
        try:
            if config.smtp_tls == "tls":
                server: smtplib.SMTP = smtplib.SMTP_SSL(
                    config.smtp_host, config.smtp_port, timeout=_TIMEOUT_S, context=context
                )
            else:
                server = smtplib.SMTP(config.smtp_host, config.smtp_port, timeout=_TIMEOUT_S)
            with server:
                if config.smtp_tls == "starttls":
                    server.starttls(context=context)
                if config.smtp_user:
                    server.login(config.smtp_user, self._password)
                server.send_message(mail)
        except (smtplib.SMTPException, OSError) as error:
            # Its own words may hold the address.
            why = f"the mail server: {type(error).__name__}"
            refused = isinstance(error, smtplib.SMTPRecipientsRefused)
            raise MessageError(why, refused=refused) from None


class MeteredReport:
    """Counts deliveries and messages, and writes what an operator has to see into the log.

    Args:
        meter: makes the counters.
    """

    def __init__(self, meter: Meter) -> None:
        self._delivered = meter.create_counter(
            "puhui.webhook.delivered", description="notices that receivers took"
        )
        self._failed = meter.create_counter(
            "puhui.webhook.failed", description="attempts to post that failed"
        )
        self._parked = meter.create_counter(
            "puhui.webhook.parked", description="webhooks that were parked"
        )
        self._webhooks = meter.create_gauge(
            "puhui.webhooks.parked", description="webhooks that are parked now"
        )
        self._contacts = meter.create_gauge(
            "puhui.contacts.parked",
            description="firms whose mail address or number refuses, and is parked now",
        )
        self._sent = meter.create_counter("puhui.message.sent", description="messages to firms")
        self._unsent = meter.create_counter(
            "puhui.message.failed", description="messages to firms that were not taken"
        )

    def delivered(self, notices: int) -> None:
        """Notices were taken."""
        self._delivered.add(notices)

    def failed(self, why: str) -> None:
        """An attempt failed."""
        self._failed.add(1)

    def broke_off(self, error: BaseException) -> None:
        """Something that no receiver can be blamed for went wrong."""
        structlog.get_logger().error("posting to a webhook broke off", exc_info=error)

    def parked(self, participant_id: str, host: str, why: str) -> None:
        """A webhook is parked."""
        self._parked.add(1)
        structlog.get_logger().warning(
            "a webhook is parked: its party has to repair and resume it",
            participant_id=participant_id,
            host=host,
            why=why,
        )

    def sent(self) -> None:
        """A message was taken."""
        self._sent.add(1)

    def unsent(self, why: str) -> None:
        """A message was not taken."""
        self._unsent.add(1)
        structlog.get_logger().warning("a message to a firm was not taken", why=why)

    def parks(self, participant_id: str, why: str) -> None:
        """An address or a number is parked, which an account of a firm set."""
        structlog.get_logger().warning(
            "a firm's mail address or number is parked: the firm has to set it again",
            participant_id=participant_id,
            why=why,
        )

    def parked_now(self, webhooks: int, contacts: int) -> None:
        """So many are parked now."""
        self._webhooks.set(webhooks)
        self._contacts.set(contacts)


def messenger_of(config: NoticesConfig, clock: Clock) -> FolderMessenger | NetworkMessenger:
    """Return what the configuration says.

    Raises:
        ConfigError: a file cannot be read.
    """
    if config.message_folder:
        return FolderMessenger(config.message_folder)
    return NetworkMessenger(config, clock)


def _read(name: str, path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError([f"{name}: the file {path} cannot be read"]) from None
