"""Writes catalogue.md and the list of types in provider.md from the catalogue: `make docs`."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from puhui.datashare.v1.catalogue_pb2 import Text as TextMessage
from services.cli.catalogue import kept
from services.datashare.catalogue.domain import MEMBER_KINDS, Catalogue, SharingMode, Text
from services.datashare.catalogue.loader import load
from services.datashare.catalogue.servicer import record_type_message

HERE = Path(__file__).parent
BEGIN = "<!-- Made from the catalogue by `make docs`: change it there. -->\n"
END = "<!-- End of what is made. -->\n"

HEAD = f"""\
# The catalogue 数据目录

{BEGIN}
Every record type with its policy: who may supply it, on what its sharing rests, how long it is
kept, what its payload and its monthly summary hold. The same comes from `puhui catalogue show TYPE`
and from `CatalogueService`; shapes and ranges of fields are rules in
[payloads.proto](../proto/puhui/datashare/v1/payloads.proto).

| sharing | means |
|---|---|
| open | public by law: no consent, but a stated purpose and a log entry |
| standing | supplied under a legal basis, released under the firm's consent |
| on consent | supplied and released only under the firm's consent to provider, type and period |

What a firm supplies about itself needs no consent to come in. Amounts are in CNY, in summaries in
fen (1/100 CNY); `day` is days since 1970-01-01, `ppm` parts per million, `metered` kWh of
electricity and m3 of water and gas. A `token` is made by the platform in the place of another
party's name or number, which it does not keep. A record without a needed field is rejected. Codes
in *italics* speak against the firm.

"""
_MODES = {
    SharingMode.OPEN: "open",
    SharingMode.STANDING: "standing",
    SharingMode.ON_CONSENT: "on consent",
}


def page(catalogue: Catalogue) -> str:
    """Return the page of all types."""
    rows = [
        [
            f"[`{name}`](#{_anchor(name, policy.title)})",
            _both(policy.title),
            _MODES[policy.sharing_mode],
            str(policy.sensitivity),
            ", ".join(f"`{kind}`" for kind in sorted(policy.provider_kinds)),
        ]
        for name, policy in catalogue.types.items()
    ]
    head = _table(["type", "", "sharing", "level", "supplied by"], rows)
    return HEAD + head + "".join(_section(catalogue, name) for name in catalogue.types)


def _section(catalogue: Catalogue, name: str) -> str:
    policy = catalogue.types[name]
    message = record_type_message(policy)
    suppliers = (f"`{kind}` {catalogue.kinds[kind].zh}" for kind in sorted(policy.provider_kinds))
    facts = [
        ["supplied by", ", ".join(suppliers)],
        ["sharing", f"{_MODES[policy.sharing_mode]}: {policy.legal_basis}"],
        ["sensitivity", f"level {policy.sensitivity} of JR/T 0197-2020"],
        ["kept", kept(message.retention)],
        ["readable", "by its supplier alone" if policy.kept_to_provider else ""],
        ["absence", "means that there is none" if policy.complete_register else ""],
        ["control totals", f"sum of `{policy.control_field}`" if policy.control_field else "rows"],
        ["latest values", ", ".join(f"`{name}`" for name in policy.attributes)],
    ]
    fields = [
        [f"`{field.name}`", field.unit, "yes" if field.required else "", _both(field.title)]
        for field in message.fields
    ]
    measures = [
        [f"`{measure.name}`", measure.unit, measure.fold, _both(measure.title)]
        for measure in policy.measures
    ]
    lists = []
    for codes in policy.code_lists.values():
        titles = (
            f"*`{code}` {title.zh}*" if code in codes.adverse else f"`{code}` {title.zh}"
            for code, title in codes.codes.items()
        )
        lists.append(f"Codes of `{codes.field}`: {', '.join(titles)}.\n\n")
    return "".join(
        [
            f"\n## {name} {_both(policy.title)}\n\n",
            _table(["", ""], [row for row in facts if row[1]]),
            "\n",
            _table(["field", "holds", "needed", ""], fields),
            "\n",
            *lists,
            _table(["by month", "unit", "folds", ""], measures),
        ]
    )


def suppliers(catalogue: Catalogue) -> str:
    """Return who supplies what, for the providers' page."""
    rows = []
    for kind, title in catalogue.kinds.items():
        types = [
            f"`{name}` {policy.title.zh}"
            for name, policy in catalogue.types.items()
            if kind in policy.provider_kinds
        ]
        who = f"`{kind}` {title.zh}" if kind not in MEMBER_KINDS else f"{title.zh} {title.en}"
        if types:
            rows.append([who, ", ".join(types)])
    return BEGIN + _table(["your kind", "types"], rows) + END


def inserted(text: str, made: str) -> str:
    """Return a page with what is made in the place of what was.

    Raises:
        ValueError: the page does not say where.
    """
    where = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if len(where.findall(text)) != 1:
        raise ValueError(f"the page should have one part from {BEGIN!r} to {END!r}")
    return where.sub(lambda _: made, text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("|" + "|".join(_cell(cell) for cell in line) + "|\n" for line in lines)


def _cell(text: str) -> str:
    return text if text == "---" else f" {text} ".replace("  ", " ")


def _both(title: Text | TextMessage) -> str:
    return f"{title.zh} {title.en}"


def _anchor(name: str, title: Text) -> str:
    words = re.sub(r"[^\w\- ]", "", f"{name} {_both(title)}".lower())
    return words.replace(" ", "-")


if __name__ == "__main__":
    loaded = load()
    (HERE / "catalogue.md").write_text(page(loaded), encoding="utf-8")
    provider = HERE / "provider.md"
    provider.write_text(
        inserted(provider.read_text(encoding="utf-8"), suppliers(loaded)), encoding="utf-8"
    )
