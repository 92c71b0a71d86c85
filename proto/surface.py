"""What others build on: messages, enums, methods, and the catalogue's fields, measures and codes.

`surface.txt` holds the surface that is committed. It grows and never shrinks: what is in it keeps
its number, name, type, unit, fold and place, so that stored records, summaries and models mean the
same under every version. `--check` fails where something was dropped or repurposed, or where
something new is not in the file yet; without it the file takes up what is new, if nothing broke.
What was never released may be taken back: delete its lines.

Usage: python proto/surface.py [--check] [FILE]
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    ServiceDescriptor,
)

from services.datashare.catalogue.domain import Catalogue, RecordType
from services.datashare.catalogue.loader import load

PROTO = Path(__file__).parent
FILE = PROTO / "surface.txt"

# What may rise, and fall never.
_RISING = ".schema_version"
_NOTHING = "-"
_TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}

Surface = Mapping[str, str]


def surface(files: Iterable[FileDescriptor], catalogue: Catalogue) -> Surface:
    """Return what there is, by name."""
    lines: dict[str, str] = {}
    for file in files:
        for message in file.message_types_by_name.values():
            lines.update(_message(message))
        for enum in file.enum_types_by_name.values():
            lines.update(_enum(enum))
        for service in file.services_by_name.values():
            lines.update(_service(service))
    for policy in catalogue.types.values():
        lines.update(_policy(policy))
    for purpose in catalogue.purposes:
        lines[f"catalogue.purposes.{purpose}"] = _NOTHING
    return lines


def _message(message: Descriptor) -> Iterator[tuple[str, str]]:
    for field in message.fields:
        kind = field.message_type or field.enum_type
        label = "repeated " if field.is_repeated else ""
        within = field.containing_oneof
        if within is not None:
            synthetic = len(within.fields) == 1 and within.name == f"_{field.name}"
            label = "optional " if synthetic else f"in {within.name} "
        name = kind.full_name if kind else _TYPES[field.type]
        yield f"{message.full_name}.{field.number}", f"{field.name}: {label}{name}"
    for nested in message.nested_types:
        yield from _message(nested)
    for enum in message.enum_types:
        yield from _enum(enum)


def _enum(enum: EnumDescriptor) -> Iterator[tuple[str, str]]:
    for value in enum.values:
        yield f"{enum.full_name}.{value.number}", value.name


def _service(service: ServiceDescriptor) -> Iterator[tuple[str, str]]:
    for method in service.methods:
        given, got = (
            f"{'stream ' if streams else ''}{message.full_name}"
            for message, streams in (
                (method.input_type, method.client_streaming),
                (method.output_type, method.server_streaming),
            )
        )
        yield method.full_name, f"{given} -> {got}"


def _policy(policy: RecordType) -> Iterator[tuple[str, str]]:
    at = f"catalogue.{policy.name}"
    yield f"{at}{_RISING}", str(policy.schema_version)
    yield f"{at}.control_field", policy.control_field or _NOTHING
    for field in policy.fields:
        yield f"{at}.fields.{field.name}", field.unit
    for measure in policy.measures:
        yield f"{at}.measures.{measure.name}", f"{measure.fold} {measure.unit}"
    for name in policy.attributes:
        yield f"{at}.attributes.{name}", _NOTHING
    for codes in policy.code_lists.values():
        # A code's place is its level in summaries.
        for place, code in enumerate(codes.codes, start=1):
            against = " adverse" if code in codes.adverse else ""
            yield f"{at}.codes.{codes.field}.{place}", f"{code}{against}"


def broken(committed: Surface, now: Surface) -> list[str]:
    """Say what of the committed surface is gone or means something else."""
    problems = []
    for name, meaning in committed.items():
        if name not in now:
            problems.append(f"{name} ({meaning}) is gone: put it back")
        elif now[name] != meaning and not _risen(name, meaning, now[name]):
            problems.append(
                f"{name} was `{meaning}` and is `{now[name]}`: put it back, and add what is new "
                "under another number and name"
            )
    return problems


def _risen(name: str, before: str, now: str) -> bool:
    return name.endswith(_RISING) and int(now) > int(before)


def read(file: Path) -> Surface:
    """Return the surface that a file holds."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {name: meaning for name, _, meaning in (line.partition(" = ") for line in lines)}


def write(file: Path, now: Surface) -> None:
    """Write a surface to a file."""
    text = "".join(f"{name} = {now[name]}\n" for name in sorted(now, key=_natural))
    file.write_text(text, encoding="utf-8")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def ours() -> list[FileDescriptor]:
    """Return the files of our own packages."""
    return [
        import_module(".".join(path.relative_to(PROTO).with_suffix("").parts) + "_pb2").DESCRIPTOR
        for path in sorted(PROTO.glob("puhui/**/*.proto"))
    ]


def main(arguments: list[str]) -> int:
    """Check the committed surface, or add to it; return the exit code."""
    file = next((Path(given) for given in arguments if given != "--check"), FILE)
    committed, now = read(file), surface(ours(), load())
    problems = broken(committed, now)
    if "--check" in arguments:
        problems += [
            f"{name} is not in {file.name}: run `make surface`"
            for name in now
            if name not in committed or (committed[name] != now[name] and name.endswith(_RISING))
        ]
    elif not problems:
        write(file, now)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
