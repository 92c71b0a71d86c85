import re
from pathlib import Path

# The names of services and roles (scoring, bank) are not among them: identities carry those.
CREDIT = re.compile(r"credit|\bscores?\b|consent|invoice|\btax|loan", re.IGNORECASE)
NOT_ABOUT_CREDIT = "knows nothing about credit"


def test_kit_is_plumbing_and_holds_not_one_credit_word(checkout: Path) -> None:
    found = [
        f"{path.relative_to(checkout)}:{number}: {line.strip()}"
        for path in sorted((checkout / "services" / "kit").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if CREDIT.search(line.replace(NOT_ABOUT_CREDIT, ""))
    ]
    assert found == []
