"""As a bank in production: score a firm, coming in by certificate and token. No event loop needed.

    export PUHUI_OFFICER="Wang 王"
    python examples/bank_by_certificate.py PROFILE FIRM CONSENT FILE_REFERENCE [AS_OF]

PROFILE is the TOML file that `puhui --profile` takes; its files stand beside it. FIRM is the id of
a subject. Several threads may use the one client.
"""

import os
import sys
import tomllib
from datetime import datetime
from pathlib import Path

from puhui_client import ConsentError, SyncClient, Tls
from puhui_client.oauth import ClientKey


def main(
    profile: Path, subject_id: str, consent_id: str, file_reference: str, as_of: datetime | None
) -> None:
    """Print the score with its reasons, or why there is none."""
    said = tomllib.loads(profile.read_text("utf-8"))
    beside = profile.parent
    tls = Tls.read(
        beside / said["certificate_file"],
        beside / said["certificate_key_file"],
        ca=beside / said["ca_file"],
    )
    key = (beside / said["client_key_file"]).read_text()
    credentials = ClientKey(said["issuer"], said["client_id"], key, tls)
    with SyncClient(said["gateway"], credentials, tls=tls) as bank:
        try:
            decision = bank.score(
                subject_id,
                consent_id,
                officer=os.environ["PUHUI_OFFICER"],
                file_reference=file_reference,
                as_of=as_of,
            )
        except ConsentError as refused:
            sys.exit(f"{refused.reason}: {refused.message}")
    print(f"{decision.score} {decision.grade} {decision.pd:.2%}, model {decision.model.version}")
    for reason in decision.reasons[:3]:
        print(f"{reason.points:+.1f} {reason.text_zh} {reason.text_en}")


if __name__ == "__main__":
    path, firm, consent, file, *when = sys.argv[1:]
    main(Path(path), firm, consent, file, datetime.fromisoformat(when[0]) if when else None)
