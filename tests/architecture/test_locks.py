import re
from pathlib import Path

import pytest

REQUIREMENT = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)
LOCKS = ("dev", "datashare", "scoring", "gateway", "build", "manifests", "audit")


def versions(lock: Path) -> dict[str, str]:
    return dict(REQUIREMENT.findall(lock.read_text()))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address_and_hashes_every_package(checkout: Path, name: str) -> None:
    lock = (checkout / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|^-|^ *--(?!hash=sha256:)", lock, re.MULTILINE)
    blocks = re.split(r"\n(?=\S)", lock.strip())
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert len(blocks) == len(REQUIREMENT.findall(lock)) > 0


def test_every_image_has_the_versions_that_were_tested(checkout: Path) -> None:
    tested = versions(checkout / "requirements" / "dev.txt")
    for name in ("datashare", "scoring", "gateway", "build"):
        image = versions(checkout / "requirements" / f"{name}.txt")
        assert image.items() <= tested.items()


def test_an_image_holds_what_its_service_needs_and_no_more(checkout: Path) -> None:
    images = {
        name: versions(checkout / "requirements" / f"{name}.txt").keys()
        for name in ("datashare", "scoring", "gateway")
    }
    assert "numpy" in images["scoring"]
    assert not {"lightgbm", "scipy"} & set().union(*images.values())
    assert "sqlalchemy" in images["datashare"] & images["scoring"]
    assert "sqlalchemy" not in images["gateway"]
    assert not {"pytest", "ruff", "typer", "pyarrow"} & set().union(*images.values())
