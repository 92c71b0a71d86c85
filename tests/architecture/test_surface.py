"""What is committed of the protocol and the catalogue stays: dropping or changing it is noticed."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool

from services.datashare.catalogue.domain import (
    Catalogue,
    FieldUnit,
    Fold,
    RecordType,
    Unit,
)
from services.datashare.catalogue.loader import load

PROTO = Path(__file__).parents[2] / "proto"
PAYLOADS = "puhui/datashare/v1/payloads.proto"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("surface", PROTO / "surface.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def broken(tool: ModuleType, payloads: FileDescriptorProto, catalogue: Catalogue) -> list[str]:
    """What a release with other payloads or another catalogue breaks."""
    pool = DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        file = FileDescriptorProto()
        Default().FindFileByName(name).CopyToProto(file)
        for needed in file.dependency:
            add(needed)
        pool.Add(payloads if name == PAYLOADS else file)

    names = [file.name for file in tool.ours()]
    for name in names:
        add(name)
    now = tool.surface([pool.FindFileByName(name) for name in names], catalogue)
    problems: list[str] = tool.broken(tool.read(PROTO / "surface.txt"), now)
    return problems


def payloads() -> FileDescriptorProto:
    file = FileDescriptorProto()
    Default().FindFileByName(PAYLOADS).CopyToProto(file)
    return file


def field(file: FileDescriptorProto, message: str, name: str) -> FieldDescriptorProto:
    fields = next(each for each in file.message_type if each.name == message).field
    return next(each for each in fields if each.name == name)


def test_the_committed_surface_is_whole_and_fresh(tool: ModuleType) -> None:
    assert tool.main(["--check"]) == 0, "run `make surface`"
    assert (PROTO / "surface.txt").stat().st_size < 1_000_000


def _drop(file: FileDescriptorProto) -> None:
    invoice = next(each for each in file.message_type if each.name == "VatInvoice")
    invoice.field.remove(field(file, "VatInvoice", "net"))


def _renumber(file: FileDescriptorProto) -> None:
    field(file, "VatInvoice", "net").number = 60


def _rename(file: FileDescriptorProto) -> None:
    field(file, "VatInvoice", "net").name = "pay"


def _retype(file: FileDescriptorProto) -> None:
    field(file, "SocialInsurance", "headcount").type = FieldDescriptorProto.TYPE_INT64


def _repeat(file: FileDescriptorProto) -> None:
    field(file, "Penalty", "authority").label = FieldDescriptorProto.LABEL_REPEATED


def _recode(file: FileDescriptorProto) -> None:
    file.enum_type[0].value[1].number = 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_drop, "VatInvoice.6 (net: google.type.Money) is gone: put it back"),
        (_renumber, "VatInvoice.6 (net: google.type.Money) is gone: put it back"),
        (_rename, "VatInvoice.6 was `net: google.type.Money` and is `pay: google.type.Money`"),
        (_retype, "SocialInsurance.1 was `headcount: optional int32` and is"),
        (_repeat, "Penalty.2 was `authority: string` and is `authority: repeated string`"),
        (_recode, "InvoiceSide.1 (INVOICE_SIDE_INPUT) is gone"),
    ],
)
def test_a_field_that_is_dropped_or_repurposed_is_noticed(
    tool: ModuleType, change: Callable[[FileDescriptorProto], None], says: str
) -> None:
    file = payloads()
    assert broken(tool, file, load()) == []
    change(file)
    problems = broken(tool, file, load())
    assert len(problems) == 1
    assert says in problems[0]


def _with(change: Callable[[RecordType], RecordType]) -> Catalogue:
    catalogue = load()
    changed = change(catalogue.types["penalty"])
    return replace(catalogue, types={**catalogue.types, "penalty": changed})


def _another_fold(policy: RecordType) -> RecordType:
    first, *rest = policy.measures
    return replace(policy, measures=(replace(first, fold=Fold.MAX), *rest))


def _another_unit(policy: RecordType) -> RecordType:
    first, *rest = policy.measures
    return replace(policy, measures=(replace(first, unit=Unit.DAYS), *rest))


def _a_field_of_another_unit(policy: RecordType) -> RecordType:
    first, *rest = policy.fields
    return replace(policy, fields=(replace(first, unit=FieldUnit.CODE), *rest))


def _without_a_code(policy: RecordType) -> RecordType:
    severity = policy.code_lists["severity"]
    kept = {code: title for code, title in severity.codes.items() if code != "serious"}
    lists = {**policy.code_lists, "severity": replace(severity, codes=kept)}
    return replace(policy, code_lists=lists)


def _codes_in_another_order(policy: RecordType) -> RecordType:
    severity = policy.code_lists["severity"]
    turned = dict(sorted(severity.codes.items()))
    lists = {**policy.code_lists, "severity": replace(severity, codes=turned)}
    return replace(policy, code_lists=lists)


def _an_earlier_schema(policy: RecordType) -> RecordType:
    return replace(policy, schema_version=0)


def _other_control_totals(policy: RecordType) -> RecordType:
    return replace(policy, control_field="")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda policy: replace(policy, measures=policy.measures[1:]), "measures.penalties"),
        (_another_fold, "measures.penalties was `sum count` and is `max count`"),
        (_another_unit, "measures.penalties was `sum count` and is `sum days`"),
        (_a_field_of_another_unit, "fields.document_number was `text` and is `code`"),
        (_without_a_code, "codes.severity.3 (serious) is gone"),
        (_codes_in_another_order, "codes.severity.1 was `minor` and is `general`"),
        (_an_earlier_schema, "schema_version was `1` and is `0`"),
        (_other_control_totals, "control_field was `amount` and is `-`"),
    ],
)
def test_a_policy_that_drops_or_repurposes_is_noticed(
    tool: ModuleType, change: Callable[[RecordType], RecordType], says: str
) -> None:
    assert broken(tool, payloads(), load()) == []
    problems = broken(tool, payloads(), _with(change))
    assert any(says in problem for problem in problems), problems


def test_a_newer_schema_breaks_nothing(tool: ModuleType) -> None:
    newer = _with(lambda policy: replace(policy, schema_version=2))
    assert broken(tool, payloads(), newer) == []


def test_the_file_takes_up_what_is_new_and_gives_nothing_up(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (PROTO / "surface.txt").read_text("utf-8").splitlines(keepends=True)
    file = tmp_path / "surface.txt"
    file.write_text("".join(whole[1:]), encoding="utf-8")
    assert tool.main(["--check", str(file)]) == 1
    assert "run `make surface`" in capsys.readouterr().err
    assert tool.main([str(file)]) == 0
    assert file.read_text("utf-8") == "".join(whole)
    file.write_text("".join([*whole, "puhui.datashare.v1.Grant.99 = gone: string\n"]), "utf-8")
    before = file.read_bytes()
    for arguments in (["--check", str(file)], [str(file)]):
        assert tool.main(arguments) == 1
        assert "puhui.datashare.v1.Grant.99 (gone: string) is gone" in capsys.readouterr().err
    assert file.read_bytes() == before
