"""Audits code and dependencies; `make audit` runs it where requirements/audit.txt is installed.

Bandit's findings have to be corrected, or explained on their line: by `# noqa: S102 - why`, which
ruff asks for as well, its S being bandit's B, or by `# nosec B102  # why`. Known vulnerabilities of
what is locked fail. Where no source of them answers, that is said and nothing is claimed: a release
of which one is known for certain is asked about first. The bills of materials of the images go to
build/sbom, held to the schema of CycloneDX.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

CHECKOUT: Final = Path(__file__).parents[1]
IMAGES: Final = ("datashare", "scoring", "gateway")
BOMS: Final = CHECKOUT / "build" / "sbom"
CODE: Final = (
    "services",
    "puhui_client",
    "hatch_build.py",
    "proto/generate.py",
    "proto/surface.py",
)
# CVE-2014-1402 and more: what no source that works has nothing about.
CONTROL: Final = "jinja2==2.4.1"
SOURCES: Final = ("pypi", "osv")

_PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)
_NOSEC = re.compile(r"#\s*nosec\b(?! B\d{3}(?:, B\d{3})*  # \S)")


def main() -> int:
    """Return 0 if nothing was found."""
    return max(insecure_code(), vulnerable_packages(), bills_of_materials())


def insecure_code() -> int:
    """Tell what bandit finds that nobody explained."""
    said = _run("bandit", "-q", "-c", "pyproject.toml", "-f", "json", "-r", *CODE)
    found = json.loads(said.stdout)
    if said.returncode not in (0, 1) or found["errors"]:
        print(f"bandit did not run: {said.stderr}{found['errors']}")
        return 1
    wrong = [finding for finding in found["results"] if not _explained(finding)]
    for finding in wrong:
        place = f"{finding['filename']}:{finding['line_number']}"
        print(f"{place}: {finding['test_id']} {finding['issue_text']}")
    silent = [
        f"{file.relative_to(CHECKOUT)}:{number}: nosec without its tests or its reason"
        for folder in ("services", "puhui_client")
        for file in (CHECKOUT / folder).rglob("*.py")
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if _NOSEC.search(line)
    ]
    print(*silent, sep="\n", end="\n" if silent else "")
    total = len(found["results"])
    print(
        f"bandit: {found['metrics']['_totals']['loc']} lines, {total - len(wrong)} findings "
        f"explained on their line by noqa, {len(wrong)} not"
    )
    return int(bool(wrong or silent))


def _explained(finding: dict[str, Any]) -> bool:
    lines = (CHECKOUT / finding["filename"]).read_text("utf-8").splitlines()
    reason = re.compile(rf"# noqa: [A-Z0-9, ]*\bS{finding['test_id'][1:]}\b[A-Z0-9, ]* - \S")
    return any(reason.search(lines[number - 1]) for number in finding["line_range"])


def vulnerable_packages() -> int:
    """Tell the known vulnerabilities of what is locked; that no source answers is no finding."""
    with TemporaryDirectory() as folder:
        control = Path(folder, "control.txt")
        control.write_text(CONTROL + "\n")
        source = next((each for each in SOURCES if _vulnerable(control, each)), None)
        if source is None:
            print(
                "########## DEPENDENCIES NOT CHECKED: no source of advisories answers here "
                f"({', '.join(SOURCES)})."
            )
            print(
                "########## DEPENDENCIES NOT CHECKED: run `make audit` with network before a "
                "release."
            )
            return 0
        everything = Path(folder, "everything.txt")
        locks = sorted((CHECKOUT / "requirements").glob("*.txt"))
        pins = {pin for lock in locks for pin in _PINNED.findall(lock.read_text())}
        # Of a package that two locks have in two versions, each is asked about.
        found = []
        while pins:
            one_each = dict(sorted(pins))
            pins -= set(one_each.items())
            everything.write_text("".join(f"{name}=={v}\n" for name, v in one_each.items()))
            answer = _vulnerable(everything, source)
            if answer is None:
                print(f"{source} stopped answering: run `make audit` again")
                return 1
            found += answer
    for package in found:
        for known in package["vulns"]:
            mended = ", ".join(known["fix_versions"]) or "no release"
            print(f"{package['name']} {package['version']}: {known['id']}, mended in {mended}")
    print(f"pip-audit: {len(found)} packages with known vulnerabilities, by {source}")
    return int(bool(found))


def _vulnerable(requirements: Path, source: str) -> list[dict[str, Any]] | None:
    """Return the packages with vulnerabilities, or None where the source does not answer."""
    said = _run(
        "pip-audit", "--disable-pip", "--no-deps", "--progress-spinner", "off", "--timeout", "10",
        "--vulnerability-service", source, "--format", "json", "--requirement", str(requirements),
    )  # fmt: skip
    if not said.stdout.strip():
        return None
    packages: list[dict[str, Any]] = json.loads(said.stdout)["dependencies"]
    if any("skip_reason" in package for package in packages):
        return None
    return [package for package in packages if package["vulns"]]


def bills_of_materials() -> int:
    """Write what each image is made of."""
    BOMS.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    failed = 0
    for image in IMAGES:
        lock = CHECKOUT / "requirements" / f"{image}.txt"
        said = _run(
            "cyclonedx-py", "requirements", str(lock), "--pyproject", "pyproject.toml",
            "--mc-type", "application", "--spec-version", "1.6", "--output-format", "JSON",
            "--output-reproducible",
        )  # fmt: skip
        if said.returncode:
            print(f"cyclonedx-py did not run: {said.stderr}")
            return 1
        bom = json.loads(said.stdout)
        bom["metadata"]["component"] |= {"name": f"puhui-{image}", "version": version}
        text = json.dumps(bom, indent=1, sort_keys=True)
        wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
        locked = set(_PINNED.findall(lock.read_text()))
        listed = {(part["name"], part["version"]) for part in bom["components"]}
        if wrong or listed != locked:
            print(f"{image}: {wrong or f'not as locked: {sorted(locked ^ listed)}'}")
            failed = 1
        file = BOMS / f"{image}.json"
        file.write_text(text + "\n", "utf-8")
        print(f"{file.relative_to(CHECKOUT)}: {len(listed)} packages")
    return failed


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = (str(Path(sys.executable).with_name(program)), *arguments)
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
