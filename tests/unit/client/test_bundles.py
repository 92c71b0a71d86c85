import json
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puhui.datashare.v1.records_pb2 import PushBatch
from puhui_client.bundles import Bundle, BundleError, Manifest, make_bundle
from puhui_client.signing import SigningKey, new_key
from tests.unit.client.test_push import row, rows

MADE_AT = datetime(2024, 6, 1, tzinfo=UTC)
KEY = new_key()


def make(
    path: Path, count: int = 5, *, key: SigningKey = KEY, batch_size: int = 2, provider: str = "par"
) -> Manifest:
    return make_bundle(
        path,
        rows(count),
        provider_id=provider,
        delivery_id="d",
        key=key,
        control_fields={"social_insurance": "paid"},
        made_at=MADE_AT,
        batch_size=batch_size,
    )


def read(path: Path) -> tuple[Manifest, list[PushBatch]]:
    with Bundle(path) as bundle:
        bundle.verify(KEY.public)
        return bundle.manifest, list(bundle.batches())


def test_a_bundle_holds_the_batches_as_they_would_travel(tmp_path: Path) -> None:
    made = make(tmp_path / "b")
    manifest, batches = read(tmp_path / "b")
    assert manifest == made
    assert [[r.provider_record_id for r in b.records] for b in batches] == [
        ["r0", "r1"],
        ["r2", "r3"],
        ["r4"],
    ]
    assert [batch.sequence for batch in batches] == [1, 2, 3]
    assert (manifest.rows, manifest.totals.rows, manifest.totals.totals[0].month) == (5, 5, 202405)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bundle_may_be_empty(tmp_path: Path) -> None:
    make(tmp_path / "b", 0)
    assert read(tmp_path / "b")[1] == []


def test_the_same_rows_at_the_same_time_make_the_same_file(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_written_over_and_nothing_half_is_left(tmp_path: Path) -> None:
    make(tmp_path / "b")
    with pytest.raises(BundleError, match="is there already"):
        make(tmp_path / "b")
    with pytest.raises(RuntimeError):
        make_bundle(
            tmp_path / "c",
            broken(),
            provider_id="par",
            delivery_id="d",
            key=KEY,
            control_fields={},
            made_at=MADE_AT,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def broken() -> Any:
    yield row(1)
    raise RuntimeError("the disk is gone")


def test_any_byte_that_changes_is_found(tmp_path: Path) -> None:
    """Each byte of the file: what is read is what was signed, or nothing."""
    make(tmp_path / "b", 2, batch_size=1)
    whole = (tmp_path / "b").read_bytes()
    genuine = read(tmp_path / "b")
    members = contents(tmp_path / "b")
    changed = tmp_path / "changed"
    found = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        changed.write_bytes(flipped)
        try:
            assert read(changed) == genuine, position
        except BundleError:
            found += 1
        else:
            assert not any(start <= position < end for start, end in members), position
    assert found > sum(end - start for start, end in members)


def contents(path: Path) -> list[tuple[int, int]]:
    """Where the content of each member stands in the file."""
    found = []
    data = path.read_bytes()
    with zipfile.ZipFile(path) as bundle:
        for info in bundle.infolist():
            name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            start = info.header_offset + 30 + name + extra
            found.append((start, start + info.file_size))
    assert len(found) == 4
    return found


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=50,
)
@given(data=st.data())
def test_bytes_that_are_missing_or_more_are_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "b"
    path.unlink(missing_ok=True)
    make(path, 3)
    whole, genuine = path.read_bytes(), read(path)
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(
        data.draw(st.sampled_from([whole[:at], whole[:at] + b"\0" + whole[at:], whole[at:]]))
    )
    with suppress(BundleError):
        assert read(path) == genuine


def test_a_bundle_by_another_key_is_not_the_providers(tmp_path: Path) -> None:
    make(tmp_path / "b", key=new_key())
    with pytest.raises(BundleError, match="name the provider's"):
        read(tmp_path / "b")


Members = dict[str, bytes]


def rewrite(path: Path, change: Callable[[Members], None], **how: Any) -> None:
    """Writes the bundle anew after a change of its members, as an attacker would."""
    with zipfile.ZipFile(path) as bundle:
        members = {info.filename: bundle.read(info) for info in bundle.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w", **how) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)


def of_manifest(**values: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        document = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps(document | values).encode()

    return change


def swap(members: Members) -> None:
    one, two = "batches/00000001.pb", "batches/00000002.pb"
    members[one], members[two] = members[two], members[one]


def drop_last(members: Members) -> None:
    del members["batches/00000003.pb"]


def climb(members: Members) -> None:
    members["../../etc/passwd"] = b"root"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (of_manifest(provider_id="par_other"), "not by this key"),
        (of_manifest(delivery_id="e"), "not by this key"),
        (of_manifest(historical=True), "not by this key"),
        (of_manifest(key_id="k"), "signed by the key k"),
        (of_manifest(format="puhui bundle v2"), "get another version"),
        (of_manifest(batches=[]), "other batches than its manifest"),
        (of_manifest(batches=[{}] * 3), "not a manifest"),
        (of_manifest(historical=1), "not a manifest"),
        (of_manifest(totals=[{"no": 1}]), "not a manifest"),
        (of_manifest(rows=-1), "not a manifest"),
        (of_manifest(made_at="yesterday"), "not a manifest"),
        (swap, "not what the manifest says"),
        (drop_last, "other batches than its manifest"),
        (climb, "other members"),
        (lambda members: members.pop("manifest.jws"), "other members"),
        (lambda members: members.update({"manifest.json": b"["}), "not a manifest"),
        (lambda members: members.update({"manifest.json": b"[" * 10**5}), "not a manifest"),
        (lambda members: members.update({"manifest.jws": b"x" * 5000}), "too large"),
    ],
    ids=map(str, range(18)),
)
def test_bundles_that_were_put_together_anew(
    tmp_path: Path, change: Callable[[Members], None], problem: str
) -> None:
    make(tmp_path / "b")
    rewrite(tmp_path / "b", change)
    with pytest.raises(BundleError, match=problem):
        read(tmp_path / "b")


def test_a_batch_of_another_delivery_is_found_though_its_signature_is_genuine(
    tmp_path: Path,
) -> None:
    """Who has the key of the manifest alone cannot pass on batches of another delivery."""
    make(tmp_path / "a")
    other = make_bundle(
        tmp_path / "b",
        rows(5),
        provider_id="par",
        delivery_id="other",
        key=KEY,
        control_fields={},
        made_at=MADE_AT,
        batch_size=2,
    )
    assert other.delivery_id == "other"
    with zipfile.ZipFile(tmp_path / "a") as bundle:
        taken = bundle.read("batches/00000001.pb")
    rewrite(tmp_path / "b", lambda members: members.update({"batches/00000001.pb": taken}))
    with pytest.raises(BundleError, match=r"00000001\.pb: not what the manifest says"):
        read(tmp_path / "b")


def test_a_control_field_that_is_none_is_told(tmp_path: Path) -> None:
    # Made by another program, whose totals cannot be counted again; signed all the same.
    make(tmp_path / "b")
    signed = {"control_fields": {"social_insurance": "headcounts"}}

    def change(members: Members) -> None:
        of_manifest(**signed)(members)
        members["manifest.jws"] = KEY.sign(b"puhui bundle v1\n" + members["manifest.json"]).encode()

    rewrite(tmp_path / "b", change)
    with pytest.raises(BundleError, match="name of a control field"):
        read(tmp_path / "b")
    signed["control_fields"] = {"social_insurance": "headcount"}
    rewrite(tmp_path / "b", change)
    with pytest.raises(BundleError, match="name of a control field"):
        read(tmp_path / "b")


def test_totals_that_are_not_those_of_the_rows_are_told(tmp_path: Path) -> None:
    make(tmp_path / "b")

    def change(members: Members) -> None:
        of_manifest(rows=4)(members)
        members["manifest.jws"] = KEY.sign(b"puhui bundle v1\n" + members["manifest.json"]).encode()

    rewrite(tmp_path / "b", change)
    with pytest.raises(BundleError, match="control totals are not those of the rows"):
        read(tmp_path / "b")


def test_a_bomb_is_not_opened(tmp_path: Path) -> None:
    make(tmp_path / "b")
    rewrite(
        tmp_path / "b",
        lambda members: members.update({"batches/00000001.pb": b"\0" * 10**7}),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert (tmp_path / "b").stat().st_size < 100_000
    with pytest.raises(BundleError, match="compressed"):
        Bundle(tmp_path / "b")


def test_members_twice_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "b")
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "b", "a") as bundle,
    ):
        bundle.writestr("batches/00000001.pb", b"")
    with pytest.raises(BundleError, match="other members"):
        Bundle(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a bundle", b"PK\x05\x06" + b"\0" * 18])
def test_files_that_are_no_bundles(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged|other members"):
        Bundle(tmp_path / "b")
