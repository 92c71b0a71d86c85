"""Why a person must decide, in words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from puhui.scoring.v1 import scoring_pb2

STOPPED: Final = "SCORING_STOPPED"
THIN_FILE: Final = "THIN_FILE"

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    STOPPED: (
        "评分已被停止: 未读取任何数据, 请人工审查。",
        "Scoring is stopped: nothing was read, and a person has to decide.",
    ),
    THIN_FILE: (
        "可用数据较少, 违约概率的不确定性过大: 请人工审查, 不得仅凭评分决定。",
        "Too little is known of the firm, so its probability of default is too uncertain: a person "
        "has to decide, and not by the score alone.",
    ),
}


def referral(code: str, since: datetime | None = None) -> scoring_pb2.Referral:
    """Return the message of a referral.

    Args:
        code: STOPPED or THIN_FILE.
        since: when scoring was stopped.
    """
    zh, en = _WORDS[code]
    message = scoring_pb2.Referral(code=code, text_zh=zh, text_en=en)
    if since is not None:
        message.since.FromDatetime(since)
    return message
