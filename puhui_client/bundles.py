"""Signed bundles: a delivery as one file, for networks that data leaves in one direction only.

A bundle is a ZIP file whose members are stored as they are: the batches, serialised and signed as
they would travel; `manifest.json`, which says of each batch its rows, size and SHA-256, and both
the sender and the control totals of the whole; and `manifest.jws`, a detached signature over it.

Invariants: a bundle is read only after all of it was checked, and each batch again as it is read;
what its signature does not cover decides nothing; nothing in it is ever written to a path, so that
names cannot lead anywhere; nothing is decompressed, and no size is believed beyond the file's own.

Needs the extra `puhui[signing]`.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import DecodeError

from puhui.datashare.v1.records_pb2 import ControlTotal, PushBatch, PushClose, Record
from puhui_client.canonical import canonical_batch
from puhui_client.push import MAX_BATCH
from puhui_client.signing import PublicKey, SigningError, SigningKey
from puhui_client.totals import Totals

FORMAT: Final = "puhui bundle v1"
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
MAX_SIGNATURE_BYTES: Final = 4096
MAX_BATCHES: Final = 200_000

_MANIFEST: Final = "manifest.json"
_SIGNATURE: Final = "manifest.jws"
_STAMP: Final = (1980, 1, 1, 0, 0, 0)
_BROKEN: Final = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    KeyError,
)
"""What zipfile raises on a file that is damaged or asks for what we do not do."""


class BundleError(ValueError):
    """A bundle is not what its signature says, or none; the message says what is wrong."""


@dataclass(frozen=True)
class BatchEntry:
    """What the manifest says of a batch.

    Args:
        sequence: of the batch, from 1.
        rows: it has.
        size: bytes.
        sha256: of these bytes, in hexadecimal.
    """

    sequence: int
    rows: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The member's name."""
        return f"batches/{self.sequence:08}.pb"


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    Args:
        provider_id: the participant whose delivery it is.
        delivery_id: of the delivery.
        historical: the records are an import or back-fill.
        made_at: when, aware.
        key_id: thumbprint of the key that signed it and every batch.
        control_fields: by record type, the amount that the totals add up.
        batches: in order.
        totals: rows and sums of the whole.
    """

    provider_id: str
    delivery_id: str
    historical: bool
    made_at: datetime
    key_id: str
    control_fields: Mapping[str, str]
    batches: tuple[BatchEntry, ...]
    totals: PushClose

    @property
    def rows(self) -> int:
        """Rows of all batches."""
        return sum(batch.rows for batch in self.batches)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "format": FORMAT,
            "provider_id": self.provider_id,
            "delivery_id": self.delivery_id,
            "historical": self.historical,
            "made_at": self.made_at.isoformat(),
            "key_id": self.key_id,
            "control_fields": dict(self.control_fields),
            "rows": self.totals.rows,
            "totals": [
                {
                    "record_type": total.record_type,
                    "month": total.month,
                    "rows": total.rows,
                    "sum": total.sum,
                }
                for total in self.totals.totals
            ],
            "batches": [
                {"sequence": b.sequence, "rows": b.rows, "size": b.size, "sha256": b.sha256}
                for b in self.batches
            ],
        }


def make_bundle(
    path: Path,
    records: Iterable[Record],
    *,
    provider_id: str,
    delivery_id: str,
    key: SigningKey,
    control_fields: Mapping[str, str],
    made_at: datetime,
    historical: bool = False,
    batch_size: int = MAX_BATCH,
) -> Manifest:
    """Write records to a new bundle.

    Args:
        path: of the bundle; there must be no such file yet.
        records: the rows, in order.
        provider_id: the participant whose delivery it is.
        delivery_id: of the delivery, unique for the provider.
        key: signs every batch and the manifest.
        control_fields: by record type, the amount that control totals add up; see
            `Client.control_fields`.
        made_at: the time, aware.
        historical: the records are an import or back-fill.
        batch_size: records per batch.

    Returns:
        What was written.

    Raises:
        BundleError: the file is there already, or there are too many rows for one bundle.
    """
    if path.exists():
        raise BundleError(f"{path} is there already: name another")
    totals = Totals(control_fields)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as bundle:
            entries = []
            for sequence, rows in enumerate(_parts(records, batch_size), start=1):
                totals.add(rows)
                batch = PushBatch(
                    sequence=sequence,
                    records=rows,
                    jws=key.sign(canonical_batch(delivery_id, sequence, rows)),
                )
                entries.append(_write_batch(bundle, batch))
            manifest = Manifest(
                provider_id=provider_id,
                delivery_id=delivery_id,
                historical=historical,
                made_at=made_at,
                key_id=key.key_id,
                control_fields=dict(control_fields),
                batches=tuple(entries),
                totals=totals.close(),
            )
            text = json.dumps(manifest.document(), ensure_ascii=False, indent=1).encode()
            bundle.writestr(_member(_MANIFEST), text)
            bundle.writestr(_member(_SIGNATURE), key.sign(_signed(text)))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return manifest


def _parts(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    remaining = iter(records)
    while part := list(islice(remaining, size)):
        yield part


def _write_batch(bundle: zipfile.ZipFile, batch: PushBatch) -> BatchEntry:
    content = batch.SerializeToString(deterministic=True)
    entry = BatchEntry(batch.sequence, len(batch.records), len(content), _sha256(content))
    if entry.sequence > MAX_BATCHES:
        raise BundleError(f"more than {MAX_BATCHES:,} batches: make several bundles")
    if entry.size > MAX_BATCH_BYTES:
        raise BundleError(f"batch {entry.sequence} is too large: make batches of fewer rows")
    bundle.writestr(_member(entry.name), content)
    return entry


class Bundle:
    """A bundle that is read. Use it as a context.

    Args:
        path: of the file.

    Raises:
        BundleError: it has not the form of a bundle; its content is not checked yet.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._zip = zipfile.ZipFile(self._file)
            members = self._members(path.stat().st_size)
            self._manifest = self._read(members[_MANIFEST])
            self._jws = self._read(members[_SIGNATURE]).decode("ascii")
            self.manifest = _manifest(self._manifest)
            if len(self.manifest.batches) != len(members) - 2:
                raise BundleError("the file has other batches than its manifest")
        except BundleError:
            self.close()
            raise
        except _BROKEN:
            self.close()
            raise BundleError("the file is damaged, or no bundle") from None
        self._entries = members

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def verify(self, key: PublicKey, advance: Callable[[int], None] = lambda rows: None) -> None:
        """Check everything: the manifest, each batch, each signature, and the totals.

        Args:
            key: the provider's, as it was received on another way than the bundle.
            advance: told of the rows of every batch.

        Raises:
            BundleError: something is not as it was signed.
        """
        manifest = self.manifest
        if manifest.key_id != key.key_id:
            raise BundleError(
                f"the bundle is signed by the key {manifest.key_id}, this one is {key.key_id}: "
                "name the provider's"
            )
        try:
            key.verify(self._jws, _signed(self._manifest))
        except SigningError as error:
            raise BundleError(f"{_MANIFEST}: {error}") from None
        totals = Totals(manifest.control_fields)
        for entry, batch in zip(manifest.batches, self.batches(), strict=True):
            canonical = canonical_batch(manifest.delivery_id, entry.sequence, batch.records)
            try:
                key.verify(batch.jws, canonical)
                totals.add(batch.records)
            except SigningError as error:
                raise BundleError(f"{entry.name}: {error}") from None
            except AttributeError:
                raise BundleError(
                    f"{_MANIFEST}: no amount has the name of a control field"
                ) from None
            advance(entry.rows)
        if totals.close() != manifest.totals:
            raise BundleError(f"{_MANIFEST}: the control totals are not those of the rows")

    def batches(self) -> Iterator[PushBatch]:
        """Go through the batches, each checked against the manifest.

        Raises:
            BundleError: a batch is not what the manifest says.
        """
        for entry in self.manifest.batches:
            try:
                content = self._read(self._entries[entry.name])
                batch = PushBatch.FromString(content)
            except (*_BROKEN, DecodeError):
                raise BundleError(f"{entry.name}: damaged") from None
            if (
                len(content) != entry.size
                or _sha256(content) != entry.sha256
                or batch.sequence != entry.sequence
                or len(batch.records) != entry.rows
            ):
                raise BundleError(f"{entry.name}: not what the manifest says")
            yield batch

    def _members(self, size: int) -> dict[str, zipfile.ZipInfo]:
        found = self._zip.infolist()
        names = [info.filename for info in found]
        batches = len(names) - 2
        expected = [BatchEntry(n, 0, 0, "").name for n in range(1, batches + 1)]
        if names != [*expected, _MANIFEST, _SIGNATURE] or batches > MAX_BATCHES:
            raise BundleError("the file has other members than a bundle")
        for info in found:
            limit = {_MANIFEST: MAX_MANIFEST_BYTES, _SIGNATURE: MAX_SIGNATURE_BYTES}
            if (
                info.compress_type != zipfile.ZIP_STORED
                or info.compress_size != info.file_size
                or info.flag_bits & 1
                or info.file_size > limit.get(info.filename, MAX_BATCH_BYTES)
            ):
                raise BundleError(f"{info.filename}: compressed, encrypted or too large")
        if sum(info.file_size for info in found) > size:
            raise BundleError("the members are larger than the file")
        if any(not 0 <= info.header_offset < size for info in found):
            raise BundleError("the members lie outside of the file")
        return dict(zip(names, found, strict=True))

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        with self._zip.open(info) as member:
            content = member.read(info.file_size + 1)
        if len(content) != info.file_size:
            raise BundleError(f"{info.filename}: not of the size that the file says")
        return content


def _member(name: str) -> zipfile.ZipInfo:
    # Nothing of the machine that made it: the same rows and times make the same file.
    info = zipfile.ZipInfo(name, _STAMP)
    info.create_system = 3
    info.external_attr = 0o600 << 16
    return info


def _signed(manifest: bytes) -> bytes:
    """What the signature covers: never the bytes of a batch, which begin otherwise."""
    return FORMAT.encode() + b"\n" + manifest


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _manifest(content: bytes) -> Manifest:
    """Return the manifest, as far as its form goes.

    Raises:
        BundleError: it has another form.
    """
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise BundleError(f"the bundle is not of the format {FORMAT}: get another version")
        manifest = Manifest(
            provider_id=_of(str, document["provider_id"]),
            delivery_id=_of(str, document["delivery_id"]),
            historical=_of(bool, document["historical"]),
            made_at=datetime.fromisoformat(document["made_at"]),
            key_id=_of(str, document["key_id"]),
            control_fields={
                _of(str, name): _of(str, field)
                for name, field in document["control_fields"].items()
            },
            batches=tuple(
                BatchEntry(
                    _of(int, entry["sequence"]),
                    _of(int, entry["rows"]),
                    _of(int, entry["size"]),
                    _of(str, entry["sha256"]),
                )
                for entry in document["batches"]
            ),
            totals=PushClose(
                rows=document["rows"],
                totals=[ControlTotal(**total) for total in document["totals"]],
            ),
        )
    except BundleError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BundleError(f"{_MANIFEST}: not a manifest") from None
    if [entry.sequence for entry in manifest.batches] != list(range(1, len(manifest.batches) + 1)):
        raise BundleError(f"{_MANIFEST}: the batches are not numbered from 1")
    return manifest


def _of(kind: type[Any], value: object) -> Any:
    if type(value) is not kind:
        raise ValueError("of another type")
    return value
