"""Marked values through every RPC: none of them is told to logs, spans, metrics or errors.

Whatever is text or bytes in a request holds the mark, headers too, once as nonsense and once so
that the call may succeed, over gRPC and HTTP; what only services may call is called straight at the
service. RPCs come from the descriptors: a new one is called from its first day.
"""

import asyncio
import base64
import importlib
import json
import pkgutil
import signal
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import httpx2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

import puhui.datashare.v1
import puhui.gateway.v1
import puhui.scoring.v1
from services.datashare.subjects import uscc
from services.gateway.http.paths import binding
from services.gateway.routes import access, full_name
from services.kit.authority import Authority
from services.kit.calls import roles_of
from services.kit.clock import SystemClock
from services.kit.identity import DATASHARE, GATEWAY, SCORING, Caller, IdentitySigner
from services.kit.ports import free_port
from services.kit.workloads import TRUST_DOMAIN, spiffe_id
from services.sandbox.embedded import Embedded
from tests.e2e.platforms import Process
from tests.e2e.test_telemetry import Collector, collector
from tests.e2e.town import MODEL, TYPES, Town, a_model, settle

__all__ = ["collector"]  # the fixture

MARK: Final = "kanar"
"""Within every marked value, also within registration numbers, in any case of letters."""
MARKED_USCC: Final = uscc.make("91", "110108", "MA0KANAR")
TEXT: Final = f"{MARK}i-密"
JWT: Final = ".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=").decode()
    for part in (b'{"alg":"EdDSA","kid":"kanari"}', b'{"sub":"kanari","jti":"kanari"}', b"kanari")
)
HEADERS: Final = {
    "user-agent": f"{MARK}i-agent",
    "referer": f"http://{MARK}i.example/",
    "cookie": f"session={MARK}i",
    "x-request-id": f"{MARK}i-request",
    "x-forwarded-for": f"{MARK}i",
    "tracestate": f"{MARK}i=1",
}
WHO: Final = {"OPERATOR": "operator", "BANK": "bank", "FIRM": "firm", "PROVIDER": "tax"}
SERVICES: Final = ("GATEWAY", "SCORING", "DATASHARE")


def methods() -> list[MethodDescriptor]:
    """Every RPC of every service but the envelope, which holds others."""
    return [
        method
        for package in (puhui.gateway.v1, puhui.datashare.v1, puhui.scoring.v1)
        for module in pkgutil.iter_modules(package.__path__)
        if module.name.endswith("_pb2")
        for service in importlib.import_module(
            f"{package.__name__}.{module.name}"
        ).DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def marked(kind: Descriptor, right: Mapping[str, Any], depth: int = 0) -> Message:
    """Return a message all of whose fields are set: as `right` says by name, or to the mark."""
    message: Any = message_factory.GetMessageClass(kind)()
    chosen: set[str] = set()
    for each in kind.fields:
        group = each.containing_oneof.name if each.containing_oneof else None
        inner = each.message_type
        if group in chosen or (inner and (depth > 5 or inner.GetOptions().map_entry)):
            continue
        chosen |= {group} if group else set()
        if inner is None:
            plain = _plain(each)
            value = right.get(each.name, plain)
            fits = isinstance(value, tuple) if each.is_repeated else type(value) is type(plain)
            value = value if fits else plain
            if each.is_repeated:
                getattr(message, each.name).extend(value if isinstance(value, tuple) else [value])
            else:
                setattr(message, each.name, value)
        elif inner.full_name == "google.protobuf.Timestamp":
            target = getattr(message, each.name)
            (target.add() if each.is_repeated else target).FromSeconds(int(time.time()) + 3600)
        else:
            made = _known(inner) or marked(inner, right, depth + 1)
            target = getattr(message, each.name)
            (target.add() if each.is_repeated else target).CopyFrom(made)
    return message  # type: ignore[no-any-return]  # of a class that is made at run time


def _plain(each: FieldDescriptor) -> Any:
    if each.enum_type:
        return each.enum_type.values[-1].number
    if each.type == FieldDescriptor.TYPE_STRING:
        return TEXT
    if each.type == FieldDescriptor.TYPE_BYTES:
        return TEXT.encode()
    return False if each.type == FieldDescriptor.TYPE_BOOL else 1


def _known(kind: Descriptor) -> Message | None:
    parts: dict[str, dict[str, Any]] = {
        "google.type.Date": {"year": 2026, "month": 1, "day": 1},
        "google.type.Money": {"currency_code": "CNY", "units": 1},
    }
    said = parts.get(kind.full_name)
    return None if said is None else message_factory.GetMessageClass(kind)(**said)


class Heard:
    """What errors said, and how calls ended."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []
        self.ended: dict[str, set[str]] = {}

    def end(self, method: str, how: str, *said: object) -> None:
        """Keep how a call ended; an error with all that it said."""
        self.ended.setdefault(method, set()).add(how)
        self.errors += [(method, str(each)) for each in said]


async def over_grpc(
    heard: Heard, channel: grpc.aio.Channel, method: str, body: bytes, metadata: Mapping[str, str]
) -> None:
    """Make a call, and of a stream hear its first answers."""
    call: Any = channel.stream_stream(method)

    async def bodies() -> AsyncIterator[bytes]:
        yield body

    called = call(bodies(), metadata=tuple(metadata.items()), timeout=10.0)
    try:
        with suppress(TimeoutError):  # a stream may go on
            async with asyncio.timeout(5):
                for _ in range(3):
                    if await called.read() is grpc.aio.EOF:
                        break
        called.cancel()
        heard.end(method, "grpc ok")
    except grpc.aio.AioRpcError as error:
        said = [error.details(), *(value for _, value in error.trailing_metadata() or ())]
        heard.end(method, f"grpc {error.code().name}", *said)


async def over_http(
    heard: Heard,
    http: httpx2.AsyncClient,
    method: MethodDescriptor,
    message: Message,
    headers: Mapping[str, str],
) -> None:
    """Make a call by its binding, if it has one."""
    bound = binding(method)
    if bound is None:
        return
    said = json_format.MessageToDict(message, preserving_proto_field_name=True)
    path = bound.path.template
    for name in bound.path.variables:
        value: Any = said
        for part in name.split("."):
            value = value.get(part, TEXT) if isinstance(value, dict) else value
        path = path.replace("{" + name + "}", _quoted(str(value)))
    asked: dict[str, Any] = {"params": {"q": TEXT, **_flat(said)}}
    if bound.has_body:
        asked = {"json": said}
    try:
        async with (
            asyncio.timeout(5),
            http.stream(bound.verb, path, headers=dict(headers), **asked) as response,
        ):
            body = ""
            async for part in response.aiter_text():
                body += part
                if bound.streams and response.is_success:
                    break
    except TimeoutError:
        heard.end(full_name(method), "http goes on")
        return
    if response.is_success:
        heard.end(full_name(method), "http ok")
    else:
        heard.end(full_name(method), f"http {response.status_code}", body, response.headers)


def _flat(said: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in said.items() if not isinstance(value, dict | list)}


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def leaks(text: str, secrets: Mapping[str, str]) -> Iterator[str]:
    """Yield around what a text tells of that it must not."""
    low = text.lower()
    for name, secret in {"mark": MARK, **secrets}.items():
        at = low.find(secret.lower())
        if at >= 0:
            yield f"{name}: ...{text[max(0, at - 200) : at + 80]}..."


async def strange(heard: Heard, http: httpx2.AsyncClient, channel: grpc.aio.Channel) -> None:
    """Send what no RPC is: credentials, paths, forms, bodies that are nothing."""
    who = "/puhui.gateway.v1.GatewayService/WhoAmI"
    for given in (f"{MARK}i", f"Bearer {MARK}i.secret", f"Bearer {JWT}", f"Basic {MARK}i"):
        await over_grpc(heard, channel, who, b"", {"authorization": given})
        response = await http.get("/v1/whoami", headers={"authorization": given})
        heard.end(who, f"http {response.status_code}", response.text, response.headers)
    for method, body in (
        (f"/puhui.{MARK}i/Do", b""),
        ("/puhui.scoring.v1.ScoringService/Score", b"\xff\xff" + TEXT.encode()),
    ):
        await over_grpc(heard, channel, method, body, {"authorization": f"Bearer {MARK}i.x"})
    form = {
        "grant_type": "client_credentials",
        "client_id": TEXT,
        "client_secret": TEXT,
        "password": TEXT,
        "username": TEXT,
        "code": TEXT,
        "redirect_uri": f"http://127.0.0.1/{MARK}i",
        "client_assertion": JWT,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/oauth/token", {"data": form}),
        ("POST", "/sign-in/token", {"data": form}),
        ("POST", "/sign-in/authorize", {"data": form}),
        ("GET", "/sign-in/authorize", {"params": form}),
        ("GET", f"/v1/{MARK}i", {"params": {f"{MARK}i": "1"}}),
        ("GET", f"/{MARK}i/%ff", {}),
        ("POST", "/v1/scores", {"content": b'{"' + TEXT.encode() + b'": '}),
        ("POST", "/v1/scores", {"content": b'{"kanari": 1}'}),
        (f"{MARK}I".upper(), "/v1/scores", {}),
        ("GET", "/v1/whoami", {"headers": {"accept": f"{MARK}i/x", "puhui-product": f"{MARK}i"}}),
    ]
    for verb, path, more in requests:
        response = await http.request(verb, path, **more)
        if not response.is_success:
            heard.end(path, f"http {response.status_code}", response.text, response.headers)


async def internally(heard: Heard, folder: Path, ports: Mapping[str, int]) -> None:
    """Call what only services may, as they would."""
    keys = folder / "keys"
    authority = Authority.load(
        (keys / "authority.crt").read_text(),
        (keys / "authority.pem").read_text(),
        clock=SystemClock(),
    )
    for issuer, service in ((GATEWAY, "gateway"), (SCORING, "scoring")):
        names = (spiffe_id(TRUST_DOMAIN, service),)
        own = authority.issue(service, names=names, hosts=("127.0.0.1",))
        credentials = grpc.ssl_channel_credentials(
            authority.certificate.encode(), own.key.encode(), own.certificate.encode()
        )
        signer = IdentitySigner((keys / f"{service}.pem").read_text(), issuer, SystemClock())
        role = "SCORING" if issuer == SCORING else "GATEWAY"
        assertion = signer.sign(Caller(f"puhui-{service}", role, None), DATASHARE)
        async with grpc.aio.secure_channel(
            f"127.0.0.1:{ports['datashare']}", credentials
        ) as channel:
            for method in methods():
                if role not in roles_of(method):
                    continue
                for token in (assertion, JWT):
                    body = marked(method.input_type, {"follow": False}).SerializeToString()
                    said = {"x-puhui-identity": token, **HEADERS}
                    await over_grpc(heard, channel, full_name(method), body, said)


async def everything(heard: Heard, town: Town, right: Mapping[str, Any]) -> None:
    """Call every RPC as each role that may: with nonsense, and with what may succeed."""
    allowed = access()
    async with (
        grpc.aio.insecure_channel(town.platform.gateway) as channel,
        httpx2.AsyncClient(base_url=f"http://{town.platform.http}", timeout=20) as http,
    ):
        await strange(heard, http, channel)
        for number, method in enumerate(methods()):
            roles = allowed.get(full_name(method)[1:], frozenset())
            if not roles:
                continue  # a service's own
            who = next((name for role, name in WHO.items() if role in roles), "operator")
            for turn, said in enumerate(({"follow": False}, right)):
                request = f"{MARK}i-{number}-{turn}"
                values = {"request_id": request, **said}
                message = marked(method.input_type, values)
                headers = {"authorization": f"Bearer {town.key(who)}", **HEADERS}
                body = message.SerializeToString()
                await over_grpc(heard, channel, full_name(method), body, headers)
                await over_http(
                    heard, http, method, message, headers | {"idempotency-key": f"{request}-http"}
                )


async def observed(folder: Path) -> str:
    """Return what health and metrics say."""
    endpoints = json.loads((folder / "endpoints.json").read_text())["health"]
    said = []
    async with httpx2.AsyncClient() as http:
        for address in endpoints.values():
            for path in ("healthz", "readyz", "metrics", f"{MARK}i?{MARK}i"):
                response = await http.get(f"http://{address}/{path}")
                said.append(response.text)
    return "\n".join(said)


async def test_nothing_marked_is_told(collector: tuple[Collector, str], tmp_path: Path) -> None:
    kept, endpoint = collector
    a_model(tmp_path / "models" / MODEL)
    ports = {service: free_port("127.0.0.1") for service in ("datashare", "scoring")}
    environ = {
        f"PUHUI_{service}_TELEMETRY_{key}": value
        for service in SERVICES
        for key, value in (("OTLP_ENDPOINT", endpoint), ("SAMPLE_RATIO", "1"))
    } | {f"PUHUI_{name.upper()}_SERVER_LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()}
    process = Process(tmp_path, environ)
    heard = Heard()
    try:
        await asyncio.to_thread(process.start)
        addresses = json.loads((tmp_path / "endpoints.json").read_text())
        operator_key = (tmp_path / "operator.key").read_text().strip()
        town = await settle(
            Embedded(tmp_path, addresses["gateway"], addresses["http"], operator_key, 0)
        )
        consent = await town.consent(officer=TEXT, file_reference=TEXT)
        async with town.client("operator") as operator, town.client("bank") as bank:
            firm = await operator.register_participant("FIRM", TEXT, uscc=MARKED_USCC)
            victim = await operator.register_participant("BANK", TEXT)
            decision = await bank.score(
                town.subject_id, consent.consent_id, officer=TEXT, file_reference=TEXT
            )
        heard.end("/puhui.scoring.v1.ScoringService/Score", f"client {bool(decision)}")
        right = {
            "participant_id": victim.participant_id,
            "subject_id": town.subject_id,
            "consent_id": consent.consent_id,
            "provider_id": town.people["tax"].participant_id,
            "record_type": TYPES[0],
            "record_types": TYPES,
            "purpose": "credit_application",
            "page_token": "",
            "page_size": 5,
            "uscc": MARKED_USCC,
            "subject": town.subject_id,
            "version": MODEL,
            "follow": False,
            "month": 202601,
            "provider_kind": "tax",
        }
        assert firm.subject_id
        await everything(heard, town, right)
        await internally(heard, tmp_path, ports)
        health = await observed(tmp_path)
    finally:
        await asyncio.to_thread(process.end, signal.SIGTERM)
    for method in methods():
        assert full_name(method) in heard.ended, f"{full_name(method)} was not called"
    fine = {name for name, ended in heard.ended.items() if any(how.endswith("ok") for how in ended)}
    assert len(fine) >= 50, sorted(set(heard.ended) - fine)  # values go as far as the stores
    secrets = {
        f"key of {name}": person.api_key.partition(".")[2] for name, person in town.people.items()
    }
    secrets |= {"operator's key": operator_key.partition(".")[2], "jwt": JWT.partition(".")[2]}
    told = [
        f"error of {method}, {leak}"
        for method, said in heard.errors
        for leak in leaks(said, secrets)
    ]
    for line in (tmp_path / "log").read_text().splitlines():
        told += [f"log, {leak}" for leak in leaks(line, secrets)]
    for request in kept.requests:
        told += [f"telemetry, {leak}" for leak in leaks(_readable(request), secrets)]
    told += [f"health, {leak}" for leak in leaks(health, secrets)]
    assert kept.spans()
    assert told == []


def _readable(request: Message) -> str:
    """Return a message as text, where letters of any alphabet stand as themselves."""
    return json_format.MessageToJson(request, ensure_ascii=False)
