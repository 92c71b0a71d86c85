"""`puhui catalogue`: record types and purposes, and the policy for each."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.inputs import lower

if TYPE_CHECKING:
    from puhui.datashare.v1.catalogue_pb2 import Code, Retention

app = typer.Typer(help="Record types, purposes and their policies.", no_args_is_help=True)


@remote(app, example="puhui catalogue list", name="list")
async def list_catalogue(session: Session) -> None:
    """List record types and purposes."""
    from puhui.common.v1.types_pb2 import ContentLevel
    from puhui.datashare.v1.catalogue_pb2 import SharingMode

    async with session.client() as client:
        types = [policy async for policy in client.record_types()]
        purposes = [purpose async for purpose in client.purposes()]
    session.out.show(
        {
            "types": [output.plain(policy) for policy in types],
            "purposes": [output.plain(purpose) for purpose in purposes],
        },
        output.table(
            "Record types",
            ["type", "", "sharing", "sensitivity>", "kept", "supplied by"],
            [
                [
                    policy.record_type,
                    f"{policy.title.zh} {policy.title.en}",
                    lower(SharingMode.Name(policy.sharing_mode), "SHARING_MODE_"),
                    str(policy.sensitivity),
                    _days(policy.retention.days),
                    ", ".join(policy.provider_kinds),
                ]
                for policy in types
            ],
        ),
        output.table(
            "Purposes",
            [
                "purpose",
                "",
                "days at most>",
                "data days at most>",
                "level at most",
                "fetches at most",
                "for another firm's score",
                "licensed as",
            ],
            [
                [
                    purpose.code,
                    f"{purpose.title.zh} {purpose.title.en}",
                    str(purpose.max_days),
                    str(purpose.max_data_days),
                    lower(ContentLevel.Name(purpose.max_content_level), "CONTENT_LEVEL_"),  # type: ignore[arg-type]  # an int32 field that holds this enum
                    f"{purpose.max_fetches} a {purpose.max_fetches_per}",
                    "yes" if purpose.for_another_firm else "",
                    purpose.product,
                ]
                for purpose in purposes
            ],
        ),
    )


@remote(app, example="puhui catalogue show vat_invoice", name="show")
async def show(
    session: Session,
    record_type: Annotated[str, typer.Argument(metavar="TYPE", help="Record type.")],
) -> None:
    """Show a record type's policy: fields and their units, monthly summary, codes, retention."""
    from puhui.datashare.v1.catalogue_pb2 import SharingMode

    async with session.client() as client:
        policy = await client.record_type(record_type)
    session.out.show(
        {"type": output.plain(policy)},
        output.pairs(
            f"{policy.record_type}: {policy.title.zh} {policy.title.en}",
            [
                ("sharing", lower(SharingMode.Name(policy.sharing_mode), "SHARING_MODE_")),
                ("legal basis", policy.legal_basis),
                ("sensitivity", f"{policy.sensitivity} of 5"),
                ("supplied by", ", ".join(policy.provider_kinds)),
                ("readable", "by its supplier alone" if policy.kept_to_provider else ""),
                ("kept", kept(policy.retention)),
                ("complete register", "yes" if policy.complete_register else "no"),
                (
                    "control totals",
                    f"sum of {policy.control_field}" if policy.control_field else "",
                ),
                ("latest values", ", ".join(policy.attributes)),
                ("schema", str(policy.schema_version)),
            ],
        ),
        output.table(
            "Payload",
            ["field", "holds", "needed", ""],
            [
                [f.name, f.unit, "yes" if f.required else "", f"{f.title.zh} {f.title.en}"]
                for f in policy.fields
            ],
        ),
        output.table(
            "Monthly summary",
            ["measure", "unit", "folds", ""],
            [[m.name, m.unit, m.fold, f"{m.title.zh} {m.title.en}"] for m in policy.measures],
        ),
        *(
            output.table(
                f"Codes of {codes.field}",
                ["code", ""],
                [[code.code, _code(code)] for code in codes.codes],
            )
            for codes in policy.code_lists
        ),
    )


def _code(code: "Code") -> str:
    return f"{code.title.zh} {code.title.en}" + (" (adverse)" if code.adverse else "")


def _days(days: int) -> str:
    return f"{days} days" if days else "without end"


def kept(rule: "Retention") -> str:
    """Say how long a record is kept."""
    parts = [_days(rule.days)]
    if rule.days:
        parts[0] += f" from {rule.from_field or 'the end of the occurrence'}"
    if rule.days_by_severity:
        by_code = sorted(rule.days_by_severity.items(), key=lambda item: item[1])
        parts.append("by severity: " + ", ".join(f"{code} {days}" for code, days in by_code))
    if rule.until_field:
        parts.append(f"not beyond {rule.until_field}")
    if rule.repaired_field:
        parts.append(f"hidden from {rule.repaired_field} on")
    return "; ".join(parts)
