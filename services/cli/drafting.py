"""Drafts of mappings: what the columns of a table may be, for somebody to confirm.

A draft says of every guess what it was made from, and is not used before the line `draft` is taken
out of it. What nothing is guessed for stands in it as a comment.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from puhui.datashare.v1.catalogue_pb2 import RecordTypePolicy
from puhui.datashare.v1.records_pb2 import Record
from services.cli.fields import PERCENT, PLAIN, Reading, Target, find, putter, text_of
from services.cli.forms import Form
from services.cli.mapping import DRAFT, record_types
from services.cli.tables import Cell, Layout, Table

SAMPLE: Final = 500
"""Rows that forms and codes are guessed from."""
_MOST_CODES: Final = 20
_CHINA: Final = "+08:00"
_MOST: Final = 0.5
"""Share of the sample that has to have a form."""

_UNIT: Final = re.compile(r"[(（]\s*(?:单位[::]?\s*)?(分|元|千元|万元|亿元|%)\s*[)）]\s*$")
_DAY_FORMS: Final = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y年%m月%d日")
_PERIOD_FORMS: Final = ("%Y-%m", "%Y/%m", "%Y.%m", "%Y%m", "%Y年%m月", "%Y年第%q季度", "%Y年")
_TIME_FORMS: Final = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y%m%d%H%M%S")
_NULLS: Final = ("-", "--", "—", "/", "无", "NULL", "null", "N/A")

_OF_ANY_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "subject.uscc": ("统一社会信用代码", "社会信用代码", "纳税人识别号", "信用代码", "uscc"),
    "hint.name": ("企业名称", "纳税人名称", "单位名称", "公司名称", "参保单位名称"),
    "hint.registration_number": ("工商注册号", "注册号", "组织机构代码"),
    "provider_record_id": ("记录编号", "流水号", "主键", "唯一标识"),
    "obtained_at": ("取得时间", "入库时间", "更新时间", "采集时间"),
    "period": ("所属期", "税款所属期", "费款所属期", "缴费月份", "月份", "期间", "年月"),
    "period.from": ("所属期起", "税款所属期起", "费款所属期起"),
    "period.to": ("所属期止", "税款所属期止", "费款所属期止"),
}
"""Names of columns that stand for fields of the record."""

_OF_A_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "vat_invoice.net": ("金额", "不含税金额", "合计金额"),
    "vat_invoice.counterparty": ("购方名称", "销方名称", "购方税号", "销方税号", "单位代号"),
    "vat_invoice.side": ("发票方向", "进销项"),
    "tax_filing.declared_sales": ("销售额", "应税销售额"),
    "tax_filing.declared_tax": ("应纳税额", "应补退税额"),
    "tax_filing.paid": ("已缴税额", "实缴税额"),
    "social_insurance.headcount": ("参保人数", "缴费人数"),
    "social_insurance.paid": ("实缴金额", "已缴金额"),
    "social_insurance.overdue": ("欠缴金额", "欠费金额"),
}
"""Names beside those of the catalogue."""

_DATED: Final = ("date", "开票日期", "发生日期", "日期", "登记日期", "立案日期", "决定日期")
"""Columns of the day that a record is of."""


@dataclass
class _Guess:
    """What a column may be."""

    column: str
    target: Target
    why: str
    options: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield f"# {self.why}"
        for note in self.notes:
            yield f"# {note}"
        options = [f"{key} = {_quoted(value)}" for key, value in self.options.items()]
        if self.codes:
            codes = ", ".join(f"{_quoted(a)} = {_quoted(b)}" for a, b in self.codes.items())
            options.append(f"codes = {{ {codes} }}")
        path = _quoted(_short(self.target.path))
        value = f"{{ {', '.join([f'field = {path}', *options])} }}" if options else path
        yield f"{_quoted(self.column)} = {value}"


def draft(table: Table, policy: RecordTypePolicy, layout: Layout) -> str:
    """Return a draft of a mapping, TOML.

    Args:
        table: what is mapped.
        policy: of its record type.
        layout: how the table was read.
    """
    rows = [row.cells for row, _ in zip(table.rows(), range(SAMPLE), strict=False)]
    columns = {
        name: [row[i] for row in rows if i < len(row)]
        for i, name in enumerate(table.columns)
        if name
    }
    titles = _titles(policy)
    guesses: list[_Guess] = []
    left: list[str] = []
    taken: set[str] = set()
    for name, cells in columns.items():
        guess = _guess(name, policy, titles, taken)
        if guess is None:
            left.append(name)
            continue
        taken.add(guess.target.path)
        _forms(guess, cells, policy)
        guesses.append(guess)
    if (guess := _subject(left, policy, taken)) is not None:
        left.remove(guess.column)
        guesses.insert(0, guess)
    return "\n".join(_document(table, policy, layout, columns, guesses, left))


def _titles(policy: RecordTypePolicy) -> dict[str, tuple[str, str]]:
    """Field and title by what a column may be called."""
    found: dict[str, tuple[str, str]] = {}
    for path, names in _OF_ANY_TYPE.items():
        for name in (path, *names):
            found[name] = (path, name)
    for item in policy.fields:
        if item.unit in {"token", "list"}:
            continue
        path = f"{policy.record_type}.{item.name}"
        plain = re.sub(r"\s*\(.*", "", item.title.zh)
        for name in (plain, item.name, *_OF_A_TYPE.get(path, ())):
            found[name] = (path, item.title.zh)
    return found


def _guess(
    name: str,
    policy: RecordTypePolicy,
    titles: Mapping[str, tuple[str, str]],
    taken: set[str],
) -> _Guess | None:
    unit = _UNIT.search(name)
    bare = _UNIT.sub("", name).strip()
    found = titles.get(bare)
    if found is None and bare in _DATED and "date" not in taken:
        found = ("date", bare)
    if found is None or found[0] in taken:
        return None
    target = find(found[0], policy.record_type)
    guess = _Guess(name, target, f"guessed from the name: {target.path} ({found[1]})")
    if target.kind == "money":
        guess.options["unit"] = unit[1] if unit and unit[1] != PERCENT else "元"
        if unit is None:
            guess.notes.append("the name says no unit: is it 元?")
    elif target.kind == "share" and unit is not None and unit[1] == PERCENT:
        guess.options["unit"] = PERCENT
    return guess


def _subject(names: Sequence[str], policy: RecordTypePolicy, taken: set[str]) -> _Guess | None:
    """The one column that ends like a registration number's, such as 销方统一社会信用代码."""
    found = [name for name in names if name.endswith(_OF_ANY_TYPE["subject.uscc"])]
    if "subject.uscc" in taken or len(found) != 1:
        return None
    why = f"guessed from the end of the name: subject.uscc ({_OF_ANY_TYPE['subject.uscc'][0]})"
    note = "is this the firm that the record is about, and no other party?"
    return _Guess(found[0], find("subject.uscc", policy.record_type), why, notes=[note])


def _forms(guess: _Guess, cells: Sequence[Cell], policy: RecordTypePolicy) -> None:
    """Add how the cells are written, where that is the same for all of the sample."""
    kind = guess.target.kind
    texts = [text for cell in cells if isinstance(cell, str) and (text := cell.strip())]
    texts = [text for text in texts if text not in _NULLS]
    if kind == "money" and any("," in text for text in texts):
        guess.options["thousands"] = ","
    if kind == "date":
        _day_form(guess, cells, texts)
    elif kind == "period" and texts and not _all_read(guess.target, PLAIN, texts):
        guess.options["period"] = _form_of(texts, _PERIOD_FORMS, "ymq", guess, "period")
    elif kind == "time":
        if texts and not _all_read(guess.target, Reading(zone=_CHINA), texts):
            forms = (*_TIME_FORMS, *_DAY_FORMS)
            guess.options["time"] = _form_of(texts, forms, "ymdHMS", guess, "time")
        guess.options["zone"] = _CHINA
    elif kind in {"code", "flag", "text"}:
        _codes(guess, texts, policy)
    if not guess.options.get(kind, "x"):
        del guess.options[kind]


def _day_form(guess: _Guess, cells: Sequence[Cell], texts: Sequence[str]) -> None:
    numbers = [cell for cell in cells if isinstance(cell, int | float)]
    if numbers and not texts:
        written = [text_of(number) for number in numbers]
        excel = _all_read(guess.target, Reading(date="excel"), written)
        guess.options["date"] = (
            "excel" if excel else _form_of(written, _DAY_FORMS, "ymd", guess, "date")
        )
    elif texts and not _all_read(guess.target, PLAIN, texts):
        guess.options["date"] = _form_of(texts, _DAY_FORMS, "ymd", guess, "date")


def _form_of(
    texts: Sequence[str], forms: Sequence[str], wanted: str, guess: _Guess, key: str
) -> str:
    """The form that most of the sample has."""
    fitting = {form: _fitting(Form(form, wanted), texts, wanted) for form in forms}
    best = max(fitting, key=lambda form: fitting[form])
    if fitting[best] < _MOST * len(texts):
        guess.notes.append(f"no form fits the first rows: write it as {key} = ...")
        return ""
    if fitting[best] < len(texts):
        guess.notes.append(f"{len(texts) - fitting[best]} of the first rows have another form")
    return best


def _fitting(form: Form, texts: Sequence[str], wanted: str) -> int:
    count = 0
    for text in texts:
        with suppress(ValueError):
            form.period(text) if wanted == "ymq" else form.moment(text)
            count += 1
    return count


def _all_read(target: Target, reading: Reading, texts: Sequence[str]) -> bool:
    put = putter(target, reading)
    try:
        for text in texts:
            put(Record(), text)
    except ValueError:
        return False
    return True


def _codes(guess: _Guess, texts: Sequence[str], policy: RecordTypePolicy) -> None:
    known = _known_codes(guess.target, policy)
    if not known:
        return
    values = list(dict.fromkeys(texts))[:_MOST_CODES]
    for value in values:
        matching = [code for word, code in known.items() if word in value or value in word]
        exact = known.get(value)
        if exact is not None or len(set(matching)) == 1:
            guess.codes[value] = exact or matching[0]
        else:
            guess.notes.append(f"what is {_quoted(value)}? one of {', '.join(set(known.values()))}")
    if all(value in known.values() for value in values):
        guess.codes.clear()


_ENUM_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "InvoiceSide": {"进项": "INPUT", "销项": "OUTPUT"},
    "InvoiceStatus": {"有效": "VALID", "正常": "VALID", "作废": "VOID"},
    "RecordStatus": {"有效": "ACTIVE", "撤回": "RETRACTED"},
}


def _known_codes(target: Target, policy: RecordTypePolicy) -> dict[str, str]:
    """What people write for a code, and the code."""
    if target.kind == "flag":
        return {"是": "true", "否": "false"}
    if target.kind == "code":
        enum = target.descriptor.enum_type
        return dict(_ENUM_WORDS.get(enum.name, {})) if enum is not None else {}
    name = target.path.removeprefix(f"{policy.record_type}.")
    for codes in policy.code_lists:
        if codes.field == name:
            return {code.title.zh: code.code for code in codes.codes}
    return {}


def _document(
    table: Table,
    policy: RecordTypePolicy,
    layout: Layout,
    columns: Mapping[str, Sequence[Cell]],
    guesses: Sequence[_Guess],
    left: Sequence[str],
) -> Iterator[str]:
    yield f"# A draft for {policy.record_type} ({policy.title.zh}), guessed from {table.told}."
    yield "# Check every line: nothing is converted that does not stand here. Then delete the next"
    yield "# line, and look at `puhui push FILE --mapping THIS --preview 5`."
    yield f"{DRAFT} = true"
    yield ""
    yield f"record_type = {_quoted(policy.record_type)}"
    yield from _file(layout, columns)
    paths = {guess.target.path for guess in guesses}
    yield from _constants(policy, paths)
    yield from _record_id(policy, guesses, paths)
    yield ""
    yield "[columns]"
    for guess in guesses:
        yield from guess.lines()
    if left:
        yield ""
        yield "# Not sent, as nothing was guessed for them:"
        for name in left:
            yield f'# {_quoted(name)} = ""'
    missing = [] if "obtained_at" in paths else ["obtained_at"]
    missing += [
        f"{item.name} ({item.title.zh})"
        for item in policy.fields
        if item.required and f"{policy.record_type}.{item.name}" not in paths
    ]
    if missing:
        yield ""
        yield f"# Missing, and a record needs it: {', '.join(missing)}"
    yield ""


def _file(layout: Layout, columns: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    lines = []
    if layout.sheet:
        lines.append(f"sheet = {_quoted(layout.sheet)}")
    if layout.header != 1:
        lines.append(f"header = {layout.header}")
    texts = {cell for cells in columns.values() for cell in cells if isinstance(cell, str)}
    if nulls := sorted(texts & set(_NULLS)):
        lines.append("# what means that there is nothing")
        lines.append(f"null = [{', '.join(map(_quoted, ['', *nulls]))}]")
    if lines:
        yield ""
        yield "[file]"
        yield from lines


def _constants(policy: RecordTypePolicy, paths: set[str]) -> Iterator[str]:
    lines = []
    if "obtained_at" not in paths:
        lines += [
            "# when you had these rows; the same each time that they are pushed",
            '# obtained_at = "2024-06-01T00:00:00+08:00"',
        ]
    if not paths & {"subject.uscc", "hint.name", "hint.registration_number"}:
        lines += ["# whom all rows are about, if they are about one firm", '# "subject.uscc" = ""']
    if not paths & {"date", "period", "period.from"}:
        lines += ["# the day or period of all rows, if they have one", '# period = "2024-05"']
    if policy.record_type == "vat_invoice" and "vat_invoice.side" not in paths:
        lines += ["# output 销项 or input 进项, if all rows are", '# side = "output"']
    if lines:
        yield ""
        yield "[constants]"
        yield from lines


def _record_id(
    policy: RecordTypePolicy, guesses: Sequence[_Guess], paths: set[str]
) -> Iterator[str]:
    if "provider_record_id" in paths:
        return
    parts = [
        guess.column
        for guess in guesses
        if guess.target.descriptor.name in {"code", "number", "contract_number", "case_number"}
        or guess.target.path in {"period", "period.from"}
    ]
    yield ""
    yield "# Your own id of a record, unique for the firm and the type, made of these columns;"
    yield "# never a registration number."
    yield "[record_id]"
    yield f"columns = [{', '.join(map(_quoted, parts))}]"
    yield 'join = ":"'


def _short(path: str) -> str:
    """A path without its payload's name, where that is clear."""
    head, _, rest = path.partition(".")
    if head in record_types() and rest.partition(".")[0] not in Record.DESCRIPTOR.fields_by_name:
        return rest
    return path


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
