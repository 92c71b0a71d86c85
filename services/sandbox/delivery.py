"""Who hands records over, and what."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from puhui.datashare.v1.records_pb2 import Record


@dataclass(frozen=True)
class Provider:
    """An institution that supplies records.

    Args:
        key: short name, unique in the sandbox.
        kind: provider kind of the catalogue.
        name: as registered on the platform.
        simulated: whether its records are made up.
    """

    key: str
    kind: str
    name: str
    simulated: bool = True


@dataclass(frozen=True)
class Delivery:
    """One provider's records of one type, ordered by firm and then by time.

    Iterating builds the messages anew each time, so that a million of them take little
    memory.

    Args:
        provider: who hands them over.
        record_type: of the catalogue.
        count: number of records.
        build: makes them.
    """

    provider: Provider
    record_type: str
    count: int
    build: Callable[[], Iterator[Record]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Record]:
        return self.build()
