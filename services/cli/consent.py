"""`puhui consent`: banks ask, firms answer."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli import output
from services.cli.accesses import purpose_of
from services.cli.asking import Terms, read_terms, selected
from services.cli.command import (
    FileReference,
    Officer,
    Session,
    remote,
    require_officer,
    usage,
)
from services.cli.inputs import (
    CHINA,
    Level,
    Limit,
    State,
    is_uscc,
    lower,
    parse_day,
    parse_moment,
    subject_id_of,
    take,
    whole_months_before,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.consents_pb2 import (
        Consent,
        ConsentSignature,
        ConsentTerms,
        FieldSelection,
    )
    from puhui.scoring.v1.products_pb2 import GetScoreProductResponse
    from puhui_client import Client
    from puhui_client.consents import Level as ContentLevelName
    from puhui_client.consents import State as StateName
    from puhui_client.platform import RoleName
    from puhui_client.signing import SigningKey

app = typer.Typer(help="Ask for, give and end consents.", no_args_is_help=True)

ConsentId = Annotated[str, typer.Argument(metavar="CONSENT", help="Id of the consent.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the other party to read.")]
_ID = "par_"
_DAYS = 90
"""How long a consent runs when nobody says."""
_MONTHS = 36
"""Whole months that a score looks at, services.scoring.features.firm.WINDOW."""


@remote(
    app,
    example="puhui consent request 91110000MA00000077 --provider par_1 --type vat_invoice "
    "--officer Wang --file-ref A-17",
)
async def request(
    session: Session,
    subject: Annotated[str, typer.Argument(help="The firm: subject id or registration number.")],
    terms_file: Annotated[
        Path | None,
        typer.Option(
            "--terms",
            metavar="FILE",
            help="TOML file with terms; options win. See docs/consent.md.",
        ),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", help="Id or name of whose records may be used; repeat."),
    ] = None,
    record_type: Annotated[
        list[str] | None, typer.Option("--type", help="Record type that may be used; repeat.")
    ] = None,
    product: Annotated[
        str,
        typer.Option(
            "--product",
            metavar="CODE",
            help="Score product whose terms are asked for; options win. See `puhui product list`.",
        ),
    ] = "",
    purpose: Annotated[
        str | None,
        typer.Option(
            "--purpose", help="See `puhui catalogue list`; credit_application by default."
        ),
    ] = None,
    level: Annotated[
        Level | None, typer.Option("--level", help="How much is opened; summary by default.")
    ] = None,
    data_from: Annotated[
        date | None,
        typer.Option(
            "--from",
            parser=parse_day,
            metavar="DAY",
            help="First day of the data; else that of the 36th month before --to's, "
            "as a score looks at 36 whole months.",
        ),
    ] = None,
    data_to: Annotated[
        date | None,
        typer.Option(
            "--to", parser=parse_day, metavar="DAY", help="Last day of the data; else today."
        ),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="How long the consent runs; 90 by default.")
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(
            "--expires",
            parser=parse_moment,
            metavar="TIME",
            help="End of the consent, instead of --days.",
        ),
    ] = None,
    not_before: Annotated[
        datetime | None,
        typer.Option(
            "--not-before",
            parser=parse_moment,
            metavar="TIME",
            help="Begin of the consent; else from the grant on.",
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="TYPE.NAME",
            help="Of this type only these fields or measures; repeat.",
        ),
    ] = None,
    once: Annotated[
        bool | None, typer.Option("--once", help="For one fetch, which ends the consent.")
    ] = None,
    fetches: Annotated[
        str | None,
        typer.Option(
            "--fetches",
            metavar="N/UNIT",
            help="How often, e.g. 4/month; else as often as the purpose allows.",
        ),
    ] = None,
    store_days: Annotated[
        int | None,
        typer.Option(
            "--store",
            min=0,
            metavar="DAYS",
            help="To be stored, until so many days after the end; else to be viewed only.",
        ),
    ] = None,
    score: Annotated[
        bool | None, typer.Option("--score/--no-score", help="Whether a score may be made of it.")
    ] = None,
    automated_decision: Annotated[
        bool | None,
        typer.Option("--automated-decision", help="A decision may be made by machine alone."),
    ] = None,
    onward: Annotated[
        list[str] | None,
        typer.Option("--onward", help="Id or name of whom it may be passed on to; repeat."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", metavar="[zh|en]", help="Of the notice; zh by default."),
    ] = None,
    supersedes: Annotated[
        str | None,
        typer.Option(
            "--supersedes", metavar="CONSENT", help="The consent that it replaces once granted."
        ),
    ] = None,
    for_subject: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="SUBJECT",
            help="The other firm whose score the data may enter: subject id or registration "
            "number. For the purpose related_party, and for it alone.",
        ),
    ] = None,
    officer: Officer = "",
    file_reference: FileReference = "",
) -> None:
    """As a bank, ask a firm for its consent. Nothing is open until the firm grants it."""
    by_number = is_uscc(subject)
    now = datetime.now(UTC)
    terms = Terms(
        purpose=purpose,
        provider=provider,
        type=record_type,
        level=level,
        data_from=data_from,
        data_to=data_to,
        days=days,
        expires=expires,
        not_before=not_before,
        fields=selected(fields or []),
        once=once,
        fetches=fetches,
        store_days=store_days,
        score=score,
        automated_decision=automated_decision,
        onward=onward,
        language=language,
        supersedes=supersedes,
        for_subject=for_subject,
    )
    if terms_file is not None:
        terms = terms.over(read_terms(terms_file))
    if not product and not (terms.provider and terms.type):
        raise usage(
            "name whose records and which: --provider and --type, a file of --terms, or --product"
        )
    if terms.once and terms.fetches:
        raise usage("--once and --fetches exclude each other: give one of them")
    frequency, notice_language = terms.frequency(), terms.notice_language()
    require_officer(officer, file_reference)
    async with session.client() as client:
        if product:
            terms = terms.over(_of_product(await client.get_score_product(product)))
        last_day = terms.data_to or now.astimezone(CHINA).date()
        consent = await client.request_consent(
            uscc=subject if by_number else "",
            subject_id="" if by_number else subject,
            purpose=terms.purpose or "credit_application",
            providers=await _ids(client, terms.provider or [], "PROVIDER"),
            record_types=terms.type or [],
            content_level=cast("ContentLevelName", (terms.level or "summary").upper()),
            data_from=terms.data_from or whole_months_before(last_day, _MONTHS),
            data_to=last_day,
            expires_at=terms.expires or now + timedelta(days=terms.days or _DAYS),
            not_before=terms.not_before,
            fields=terms.fields,
            once=bool(terms.once),
            fetches=frequency,
            store_days=terms.store_days,
            score=terms.score is not False,
            automated_decision=bool(terms.automated_decision),
            onward_recipients=await _ids(client, terms.onward or [], "BANK"),
            notice_language=notice_language,
            supersedes=terms.supersedes or "",
            for_subject_id=await subject_id_of(client, terms.for_subject)
            if terms.for_subject
            else "",
            officer=officer,
            file_reference=file_reference,
        )
        await _show(session, client, consent)


def _of_product(answer: "GetScoreProductResponse") -> Terms:
    """Return the terms that a score product drafts."""
    from puhui_client.values import from_date

    drafted = answer.terms
    if not answer.HasField("terms"):
        raise usage("nobody could supply what this product needs: name --provider and --type")
    return Terms(
        purpose=drafted.purpose,
        provider=list(drafted.provider_ids),
        type=list(drafted.record_types),
        data_from=from_date(getattr(drafted.data_period, "from")),
        data_to=from_date(drafted.data_period.to),
    )


@remote(app, example="puhui consent grant con_1")
async def grant(
    session: Session,
    consent_id: ConsentId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; the terms were read.")] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            "--signing-key", metavar="FILE", help="Sign with this key, which is registered."
        ),
    ] = None,
) -> None:
    """As a signer of the firm, agree to the terms of a request, after reading them."""
    if session.out.as_json and not yes:
        raise usage("with --json the terms cannot be read first: say --yes")
    async with session.client() as client:
        consent = await client.get_consent(consent_id)
        if not yes:
            session.out.stderr().print(_terms(consent, await _names(client)))
            session.out.stderr().print(_notice(consent))
            typer.confirm("Grant exactly this?", abort=True, err=True)
        consent = await client.grant_consent(consent, signing_key=_signing_key(key))
        await _show(session, client, consent)


@remote(app, example='puhui consent reject con_1 --note "not now"')
async def reject(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As a firm, say no to a request."""
    async with session.client() as client:
        consent = await client.reject_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example="puhui consent withdraw con_1")
async def withdraw(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As a firm, end its consent. Whatever is asked after this is refused."""
    async with session.client() as client:
        consent = await client.withdraw_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example='puhui consent pause con_1 --note "until the audit is done"')
async def pause(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As a firm, stop its consent for a time. Whatever is asked after this is refused."""
    async with session.client() as client:
        consent = await client.pause_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example="puhui consent resume con_1")
async def resume(session: Session, consent_id: ConsentId) -> None:
    """As a firm, let a paused consent go on."""
    async with session.client() as client:
        consent = await client.resume_consent(consent_id)
        await _show(session, client, consent)


@remote(app, example="puhui consent duties --overdue")
async def duties(
    session: Session,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only what is due and not attested.")
    ] = False,
    limit: Limit = 100,
) -> None:
    """List what a bank must erase because a consent to store ended, soonest due first."""
    async with session.client() as client:
        found = await take(client.erasure_duties(overdue=overdue), limit, session.out)
        names = {} if session.out.as_json else await _names(client)
    session.out.show(
        {"duties": [output.plain(duty) for duty in found]},
        output.table(
            output.count(len(found), "duty", "duties"),
            ["consent", "subject", "recipient", "ended", "due", "attested", "by", "statement"],
            [
                [
                    duty.consent_id,
                    duty.subject_id,
                    _named(duty.recipient_id, names),
                    output.moment(duty.ended_at),
                    output.instant(duty.due_at),
                    output.moment(duty.attested_at),
                    duty.attested_by.name,
                    duty.statement,
                ]
                for duty in found
            ],
        ),
    )


@remote(
    app,
    example='puhui consent attest con_1 --statement "deleted" --officer Wang --file-ref A-17',
)
async def attest(
    session: Session,
    consent_id: ConsentId,
    statement: Annotated[str, typer.Option("--statement", help="What was done.")],
    officer: Officer = "",
    file_reference: FileReference = "",
) -> None:
    """As a bank, declare that what was stored under an ended consent is erased."""
    require_officer(officer, file_reference)
    async with session.client() as client:
        duty = await client.attest_erasure(
            consent_id, statement, officer=officer, file_reference=file_reference
        )
    session.out.show(
        {"duty": output.plain(duty)},
        output.pairs(
            f"Erased: {duty.consent_id}",
            [
                ("due", output.instant(duty.due_at)),
                ("attested", output.moment(duty.attested_at)),
                ("by", f"{duty.attested_by.name}, {duty.attested_by.file_reference}"),
                ("statement", duty.statement),
            ],
        ),
    )


@remote(app, example="puhui consent verify con_1")
async def verify(session: Session, consent_id: ConsentId) -> None:
    """Check the platform's signatures over a consent and its end, and the hash of its notice."""
    import hashlib

    from puhui_client.signing import SigningError

    async with session.client() as client:
        consent = await client.get_consent(consent_id)
        if not consent.platform_jws:
            raise usage("this consent is of schema version 1, which the platform did not sign")
        signed = {"consent": (consent.platform_jws, consent.canonical)}
        if consent.HasField("termination"):
            signed["end"] = (consent.termination.jws, consent.termination.canonical)
        found = {}
        for what, (jws, content) in signed.items():
            try:
                key = await client.verify_platform_signature(jws, content)
            except SigningError as error:
                found[what] = f"NOT VALID: {error}"
            else:
                found[what] = f"signed by {key.suite} with {key.key_id}"
    core = json.loads(consent.canonical)
    if core["consent_id"] != consent_id:
        found["consent"] = "NOT VALID: of another consent"
    if consent.HasField("termination"):
        ended = json.loads(consent.termination.canonical).get("canonical_sha256")
        if ended != hashlib.sha256(consent.canonical).hexdigest():
            found["end"] = "NOT VALID: of another consent"
    same = core["notice"]["sha256"] == hashlib.sha256(consent.notice.encode()).hexdigest()
    found["notice"] = "as hashed" if same else "NOT VALID: not the one whose hash was signed"
    valid = not any(each.startswith("NOT VALID") for each in found.values())
    session.out.show(
        {"consent_id": consent_id, "valid": valid, "checks": found},
        output.pairs(
            f"Consent {consent_id}", [*found.items(), *(_ended(consent) if valid else [])]
        ),
    )
    if not valid:
        raise typer.Exit(1)


@remote(app, example='puhui consent revoke con_1 --note "loan repaid"')
async def revoke(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As the bank that holds it or as the operator, end a consent."""
    async with session.client() as client:
        consent = await client.revoke_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example="puhui consent show con_1", name="show")
async def show(session: Session, consent_id: ConsentId) -> None:
    """Show one consent with its terms, and the notice that the firm is shown."""
    async with session.client() as client:
        consent = await client.get_consent(consent_id)
        await _show(session, client, consent, _notice(consent))


@remote(app, example="puhui consent list --state active", name="list")
async def list_consents(
    session: Session,
    state: Annotated[State | None, typer.Option("--state", help="Only these.")] = None,
    limit: Limit = 100,
) -> None:
    """List one's consents, newest first."""
    async with session.client() as client:
        name = None if state is None else cast("StateName", state.upper())
        consents = await take(client.list_consents(state=name), limit, session.out)
        names = {} if session.out.as_json else await _names(client)
    session.out.show(
        {"consents": [output.plain(consent) for consent in consents]},
        output.table(
            output.count(len(consents), "consent"),
            ["consent", "state", "subject", "recipient", "purpose", "types", "expires"],
            [
                [
                    consent.consent_id,
                    _state(consent),
                    consent.subject_id,
                    _named(consent.recipient_id, names),
                    purpose_of(consent.terms),
                    ", ".join(consent.terms.record_types),
                    output.moment(consent.terms.expires_at),
                ]
                for consent in consents
            ],
        ),
    )


def _state(consent: "Consent") -> str:
    from puhui.datashare.v1.consents_pb2 import ConsentState

    return lower(ConsentState.Name(consent.state), "CONSENT_STATE_").replace("_", " ")


def _ended(consent: "Consent") -> list[tuple[str, str]]:
    """Return what the receipt of a consent's end says."""
    if not consent.HasField("termination"):
        return []
    receipt = json.loads(consent.termination.canonical)

    def local(name: str) -> str:
        at = receipt.get(name)
        return datetime.fromisoformat(at).astimezone().isoformat(" ", "seconds") if at else ""

    by, principal = receipt.get("ended_by", ""), receipt.get("principal_id", "")
    return [
        ("ended", local("ended_at")),
        ("ended by", f"{by} for {principal}" if principal not in ("", by) else by),
        ("erase by", local("erase_by")),
    ]


def _signing_key(path: Path | None) -> "SigningKey | None":
    if path is None:
        return None
    from puhui_client.signing import SigningError, SigningKey

    try:
        return SigningKey.read(path)
    except OSError as error:
        raise usage(f"{path} cannot be read ({error.strerror}): check it") from None
    except SigningError as error:
        raise usage(str(error)) from None


def _notice(consent: "Consent") -> "RenderableType":
    from rich.text import Text

    return Text(f"\n{consent.notice}" if consent.notice else "")


async def _show(
    session: Session, client: "Client", consent: "Consent", *more: "RenderableType"
) -> None:
    names = {} if session.out.as_json else await _names(client)
    session.out.show({"consent": output.plain(consent)}, _terms(consent, names), *more)


async def _names(client: "Client") -> dict[str, str]:
    """Return the names of participants by id; without the directory, none."""
    from puhui_client import PuhuiError

    try:
        return {found.participant_id: found.name async for found in client.participants()}
    except PuhuiError:  # what was done is told all the same
        return {}


def _named(participant_id: str, names: Mapping[str, str]) -> str:
    return f"{participant_id} {names.get(participant_id, '')}".rstrip()


async def _ids(client: "Client", providers: list[str], role: "RoleName") -> list[str]:
    """Return the ids of participants that are given by id or by name."""
    if all(provider.startswith(_ID) for provider in providers):
        return providers
    ids: dict[str, list[str]] = {}
    async for found in client.participants(role=role):
        ids.setdefault(found.name, []).append(found.participant_id)
    chosen = []
    for provider in providers:
        candidates = [provider] if provider.startswith(_ID) else ids.get(provider, [])
        if not candidates:
            raise usage(
                f"no {role.lower()} is called {provider}: "
                f"`puhui participant list --role {role.lower()}` names them"
            )
        if len(candidates) > 1:
            raise usage(f"{provider} is the name of {', '.join(candidates)}: name one by its id")
        chosen += candidates
    return chosen


def _terms(consent: "Consent", names: Mapping[str, str]) -> "RenderableType":
    from puhui.common.v1.types_pb2 import ContentLevel

    terms = consent.terms
    first, last = getattr(terms.data_period, "from"), terms.data_period.to
    return output.pairs(
        f"Consent {consent.consent_id}: {_state(consent)}",
        [
            ("subject", consent.subject_id),
            ("recipient", _named(consent.recipient_id, names)),
            ("purpose", terms.purpose),
            ("for the score of", terms.for_subject_id),
            ("level", lower(ContentLevel.Name(terms.content_level), "CONTENT_LEVEL_")),
            ("types", ", ".join(terms.record_types)),
            ("providers", "\n".join(_named(provider, names) for provider in terms.provider_ids)),
            ("data", f"{output.day(first)} to {output.day(last)}"),
            ("not before", output.instant(terms.not_before)),
            ("expires", output.instant(terms.expires_at)),
            ("fields", "\n".join(_field(part) for part in terms.fields)),
            ("fetches", _fetches(consent)),
            ("kept", _kept(terms)),
            ("made of it", _derived(terms)),
            ("passed on", "\n".join(_named(each, names) for each in terms.onward_recipient_ids)),
            ("signers", _signers(consent)),
            ("agreed", "\n".join(_agreed(signature) for signature in consent.signatures)),
            ("answer by", output.instant(consent.answer_by) if _waits(consent) else ""),
            *_ended(consent),
            ("replaces", consent.supersedes_consent_id),
            ("replaced by", consent.superseded_by_consent_id),
            ("revision", str(consent.revision)),
            ("note", consent.note),
            ("hash", consent.canonical_sha256.hex()),
        ],
    )


def _waits(consent: "Consent") -> bool:
    from puhui.datashare.v1.consents_pb2 import (
        CONSENT_STATE_PARTIALLY_APPROVED,
        CONSENT_STATE_REQUESTED,
    )

    return consent.state in (CONSENT_STATE_REQUESTED, CONSENT_STATE_PARTIALLY_APPROVED)


def _field(part: "FieldSelection") -> str:
    return f"{part.record_type}: {', '.join(part.names)}"


def _fetches(consent: "Consent") -> str:
    from puhui.datashare.v1.consents_pb2 import FrequencyUnit

    limit = consent.terms.fetch_limit
    used = f", {consent.fetches_used} used"
    match limit.WhichOneof("limit"):
        case "one_time":
            return f"once{used}"
        case "periodic":
            unit = lower(FrequencyUnit.Name(limit.periodic.unit), "FREQUENCY_UNIT_")
            return f"{limit.periodic.times} a {unit}{used}"
        case _:
            return ""


def _kept(terms: "ConsentTerms") -> str:
    from puhui.datashare.v1.consents_pb2 import CONSENT_MODE_STORE

    if terms.mode == CONSENT_MODE_STORE:
        return f"stored, until {output.count(terms.data_life_days, 'day')} after the end"
    return "viewed only"


def _derived(terms: "ConsentTerms") -> str:
    score = terms.derived_use.score if terms.HasField("derived_use") else True
    decision = terms.derived_use.automated_decision
    return f"{'a score' if score else 'no score'}, {'a' if decision else 'no'} decision by machine"


def _signers(consent: "Consent") -> str:
    if not consent.signer_ids:
        return ""
    return f"{consent.signers_required} of {', '.join(consent.signer_ids)}"


def _agreed(signature: "ConsentSignature") -> str:
    return f"{signature.signer_id} {'by a signature' if signature.jws else 'by its own call'}"
