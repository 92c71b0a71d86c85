"""Records as people read them: a value for each field that is set."""

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.common.v1.types_pb2 import DatePeriod
from puhui_client import values
from services.cli.inputs import CHINA


def flat(message: Message, path: str = "") -> dict[str, str]:
    """Return the values of a message by their path."""
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            found[here] = "; ".join(_shown(field, item) for item in value)
        elif isinstance(value, Message) and not isinstance(value, _SINGLE):
            found |= flat(value, here)
        else:
            found[here] = _shown(field, value)
    return found


_SINGLE = (Money, Date, DatePeriod, Timestamp)


def _shown(field: FieldDescriptor, value: object) -> str:
    if isinstance(value, Money):
        return f"{values.from_money(value):f} {value.currency_code}"
    if isinstance(value, Date):
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    if isinstance(value, DatePeriod):
        first = getattr(value, "from")
        return f"{_shown(field, first)}/{_shown(field, value.to)}"
    if isinstance(value, Timestamp):
        return values.from_timestamp(value).astimezone(CHINA).isoformat()
    if isinstance(value, Message):
        return ", ".join(f"{name}={text}" for name, text in flat(value).items())
    if field.enum_type is not None and isinstance(value, int):
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        named = field.enum_type.values_by_number.get(value)
        return named.name.removeprefix(prefix).lower() if named is not None else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
