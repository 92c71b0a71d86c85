"""What `puhui facts --export` writes: JSON for programs, CSV for spreadsheets, a page for people.

Invariants:

- The same answers of the platform give the same bytes: times are China Standard Time, whatever the
  zone of this machine, and rows keep the order of the answers.
- Only the owner can read what is written, as it is about the firm.
- Nothing in a file is executed: cells that a spreadsheet would take for a formula are quoted, the
  page is escaped, loads nothing and runs nothing.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.cli import output
from services.cli.accesses import made, result
from services.cli.facts import about, said, state
from services.cli.inputs import CHINA, lower

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from puhui.datashare.v1.accesses_pb2 import Access
    from puhui.datashare.v1.facts_pb2 import GetFactsResponse, HeldRecord

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
td { vertical-align: top; overflow-wrap: anywhere }
"""

_HEADINGS: Final = {
    "about": "所属期间",
    "access_id": "查询编号",
    "accessed_at": "查询时间",
    "answer_due_at": "答复期限",
    "consent_id": "授权编号",
    "content": "内容",
    "dispute_id": "异议编号",
    "dispute_ids": "异议编号",
    "effect_en": "撤回的后果（英文）",
    "effect_zh": "撤回的后果",
    "expires_at": "到期时间",
    "field": "字段",
    "file_reference": "业务编号",
    "first": "最早",
    "for_subject_id": "为哪家企业",
    "kept_because_en": "保留原因（英文）",
    "kept_because_zh": "保留原因",
    "last": "最近",
    "last_received_at": "最近收到",
    "legal_basis": "依据",
    "made_of_it": "用于",
    "obtained_at": "取得时间",
    "officer": "经办人",
    "opened_at": "提出时间",
    "participant_id": "账户",
    "principal_id": "代表谁",
    "provider_id": "提供单位编号",
    "provider_name": "提供单位",
    "provider_record_id": "记录编号",
    "purpose": "用途",
    "recipient_id": "机构编号",
    "recipient_name": "机构",
    "record_type": "信息类别",
    "record_types": "信息类别",
    "recorded_at": "收到时间",
    "records": "条数",
    "result": "结果",
    "sharing": "开放方式",
    "state": "状态",
    "statement": "企业的说明",
    "title_en": "名称（英文）",
    "title_zh": "名称",
    "version": "版本",
    "viewed_at": "查看时间",
    "what": "查看内容",
}

Rows = Sequence[Sequence[str]]


def write(
    folder: Path,
    facts: "GetFactsResponse",
    records: "Sequence[HeldRecord]",
    accesses: "Sequence[Access]",
) -> list[str]:
    """Write all files into a folder that is new or empty; return their names.

    Args:
        folder: made if it is missing.
        facts: the page.
        records: all of them.
        accesses: all of them.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = documents(facts, records, accesses)
    for name, content in files.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return list(files)


def documents(
    facts: "GetFactsResponse", records: "Sequence[HeldRecord]", accesses: "Sequence[Access]"
) -> Mapping[str, bytes]:
    """Return the content of each file by its name."""
    page = output.plain(facts)
    page["accesses"] = [output.plain(access) for access in accesses]
    page["records"] = [output.plain(held) for held in records]
    tables = {
        "holdings": _holdings(facts),
        "accesses": _accesses(accesses),
        "consents": _consents(facts),
        "disputes": _disputes(facts),
        "own_views": _own_views(facts),
        "records": _records(records),
    }
    text = json.dumps(page, ensure_ascii=False, indent=2, sort_keys=True)
    return {
        "facts.html": _html(facts, tables).encode(),
        "facts.json": f"{text}\n".encode(),
        **{f"{name}.csv": _csv(rows) for name, rows in tables.items()},
    }


def _holdings(facts: "GetFactsResponse") -> Rows:
    names = (
        "record_type", "title_zh", "title_en", "provider_id", "provider_name", "records", "first",
        "last", "last_received_at", "sharing", "legal_basis", "kept_because_zh", "kept_because_en",
    )  # fmt: skip  # a table, line by line
    return [
        names,
        *(
            (
                holding.record_type,
                holding.title_zh,
                holding.title_en,
                holding.provider_id,
                holding.provider_name,
                str(holding.records),
                output.day(holding.first),
                output.day(holding.last),
                _time(holding.last_received_at),
                holding.sharing,
                holding.legal_basis,
                holding.kept_because_zh,
                holding.kept_because_en,
            )
            for holding in facts.holdings
        ),
    ]


def _accesses(accesses: "Sequence[Access]") -> Rows:
    names = (
        "accessed_at", "recipient_id", "recipient_name", "officer", "file_reference", "purpose",
        "for_subject_id", "made_of_it", "record_types", "consent_id", "result", "access_id",
    )  # fmt: skip  # a table, line by line
    return [
        names,
        *(
            (
                _time(access.accessed_at),
                access.recipient_id,
                access.recipient_name,
                access.officer.name,
                access.officer.file_reference,
                access.purpose,
                access.for_subject_id,
                made(access),
                " ".join(access.record_types),
                access.consent_id,
                result(access),
                access.access_id,
            )
            for access in accesses
        ),
    ]


def _consents(facts: "GetFactsResponse") -> Rows:
    names = (
        "consent_id", "recipient_id", "recipient_name", "purpose", "for_subject_id", "record_types",
        "state", "expires_at", "effect_zh", "effect_en",
    )  # fmt: skip  # a table, line by line
    return [
        names,
        *(
            (
                standing.consent.consent_id,
                standing.consent.recipient_id,
                standing.recipient_name,
                standing.consent.terms.purpose,
                standing.consent.terms.for_subject_id,
                " ".join(standing.consent.terms.record_types),
                state(standing),
                _time(standing.consent.terms.expires_at),
                standing.effect_zh,
                standing.effect_en,
            )
            for standing in facts.consents
        ),
    ]


def _disputes(facts: "GetFactsResponse") -> Rows:
    from puhui.datashare.v1.disputes_pb2 import DisputeState

    names = (
        "dispute_id", "record_type", "provider_id", "provider_record_id", "field", "state",
        "opened_at", "answer_due_at", "statement",
    )  # fmt: skip  # a table, line by line
    return [
        names,
        *(
            (
                dispute.dispute_id,
                dispute.record_type,
                dispute.provider_id,
                dispute.provider_record_id,
                dispute.field,
                lower(DisputeState.Name(dispute.state), "DISPUTE_STATE_"),
                _time(dispute.opened_at),
                _time(dispute.answer_due_at),
                dispute.statement,
            )
            for dispute in facts.disputes
        ),
    ]


def _own_views(facts: "GetFactsResponse") -> Rows:
    return [
        ("viewed_at", "participant_id", "principal_id", "what"),
        *(
            (_time(view.viewed_at), view.participant_id, view.principal_id, view.what)
            for view in facts.views
        ),
    ]


def _records(records: "Sequence[HeldRecord]") -> Rows:
    names = (
        "record_type", "provider_id", "provider_record_id", "version", "about", "obtained_at",
        "recorded_at", "content", "dispute_ids",
    )  # fmt: skip  # a table, line by line
    return [
        names,
        *(
            (
                held.record.record_type,
                held.provider_id,
                held.record.provider_record_id,
                str(held.record.version),
                about(held),
                _time(held.record.obtained_at),
                _time(held.recorded_at),
                said(held),
                " ".join(dispute.dispute_id for dispute in held.disputes),
            )
            for held in records
        ),
    ]


def _csv(rows: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    # With the mark by which Excel knows UTF-8.
    return text.getvalue().encode("utf-8-sig")


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _html(facts: "GetFactsResponse", tables: Mapping[str, Rows]) -> str:
    looked = f"{facts.releases:,} 次提供 releases, {facts.refusals:,} 次拒绝 refusals"
    parts = [
        f"<p>{escape(facts.subject_id)}, {escape(_time(facts.read_at))}</p>",
        "<h2>持有的信息 What is held, and who supplied it</h2>",
        _table(tables["holdings"]),
        "<h2>有效授权及撤回的后果 Consents in force, and what withdrawing each does</h2>",
        _table(tables["consents"]),
        f"<h2>查询记录 Who looked: {looked}</h2>",
        _table(tables["accesses"]),
        "<h2>未决异议 Open disputes</h2>",
        _table(tables["disputes"]),
        "<h2>本人查询 Own looks, which nobody else is told of</h2>",
        _table(tables["own_views"]),
        "<h2>记录 The records</h2>",
        _table(tables["records"]),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>企业信息告知书 Facts</title><style>{_STYLE}</style>"
    )
    body = "\n".join(["<h1>企业信息告知书 What is held about your firm</h1>", *parts])
    lines = ("<!doctype html>", '<html lang="zh">', f"<head>{head}</head>", "<body>", body)
    return "\n".join([*lines, "</body>", "</html>", ""])


def _heading(name: str) -> str:
    """Return a column's name in Chinese and English."""
    return f"{_HEADINGS[name]} {name.replace('_', ' ')}"


def _table(rows: Rows) -> str:
    names, *cells = rows
    if not cells:
        return "<p>无 None.</p>"
    head = "".join(f"<th>{escape(_heading(name))}</th>" for name in names)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in cells]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _time(stamp: "Timestamp") -> str:
    if not stamp.seconds:
        return ""
    return stamp.ToDatetime(UTC).astimezone(CHINA).isoformat(timespec="seconds")
