"""`puhui catalogue`: record types and purposes, and the policy for each."""

from typing import Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.inputs import lower

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
            ["type", "", "sharing", "sensitivity>", "supplied by"],
            [
                [
                    policy.record_type,
                    f"{policy.title.zh} {policy.title.en}",
                    lower(SharingMode.Name(policy.sharing_mode), "SHARING_MODE_"),
                    str(policy.sensitivity),
                    ", ".join(policy.provider_kinds),
                ]
                for policy in types
            ],
        ),
        output.table(
            "Purposes",
            ["purpose", "", "days at most>", "level at most"],
            [
                [
                    purpose.code,
                    f"{purpose.title.zh} {purpose.title.en}",
                    str(purpose.max_days),
                    lower(ContentLevel.Name(purpose.max_content_level), "CONTENT_LEVEL_"),  # type: ignore[arg-type]  # an int32 field that holds this enum
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
    """Show a record type's policy, what its summary holds and its code lists."""
    from puhui.datashare.v1.catalogue_pb2 import SharingMode

    async with session.client() as client:
        policy = await client.record_type(record_type)
    kept = f"{policy.retention_days} days" if policy.retention_days else "without end"
    session.out.show(
        {"type": output.plain(policy)},
        output.pairs(
            f"{policy.record_type}: {policy.title.zh} {policy.title.en}",
            [
                ("sharing", lower(SharingMode.Name(policy.sharing_mode), "SHARING_MODE_")),
                ("legal basis", policy.legal_basis),
                ("sensitivity", f"{policy.sensitivity} of 5"),
                ("supplied by", ", ".join(policy.provider_kinds)),
                ("kept", kept),
                ("complete register", "yes" if policy.complete_register else "no"),
                ("schema", str(policy.schema_version)),
            ],
        ),
        output.table(
            "Monthly summary",
            ["measure", "unit", ""],
            [[m.name, m.unit, f"{m.title.zh} {m.title.en}"] for m in policy.measures],
        ),
        *(
            output.table(
                f"Codes of {codes.field}",
                ["code", ""],
                [[code.code, f"{code.title.zh} {code.title.en}"] for code in codes.codes],
            )
            for codes in policy.code_lists
        ),
    )
