"""The page on which people sign in at the sandbox: no script, nothing from elsewhere, no frame."""

import base64
import hashlib
import html
from collections.abc import Mapping
from typing import Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem;"
    "color:#1b2733}label{display:block;margin:1rem 0 .2rem}input{width:100%;padding:.5rem;"
    "box-sizing:border-box;font:inherit}button{margin-top:1.5rem;padding:.6rem 1.2rem;font:inherit;"
    "background:#0a58a8;color:#fff;border:0;cursor:pointer}.refused{color:#a11}"
    ".note{color:#52616f;font-size:.9rem}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "cache-control": "no-store",
    # No form-action: a browser holds it against the redirect to the program's own port, too.
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def form(asked: Mapping[str, str], refused: str = "") -> str:
    """Return the form.

    Args:
        asked: the parameters of the request, which come back with the answer.
        refused: why the last try let nobody in.
    """
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
        for name, value in asked.items()
    )
    told = f'<p class="refused" role="alert">{html.escape(refused)}</p>' if refused else ""
    return _page(
        f'{told}<form method="post" action="authorize">{hidden}'
        '<label for="name">Name 用户名</label>'
        '<input id="name" name="name" autocomplete="username" required autofocus>'
        '<label for="password">Password 密码</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password"'
        " required><button>Sign in 登录</button></form>"
    )


def problem(wrong: str) -> str:
    """Return the page about a request that cannot be served."""
    return _page(f'<p class="refused" role="alert">{html.escape(wrong)}</p>')


def _page(content: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Puhui sandbox</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><h1>Puhui sandbox 普惠沙盒</h1>{content}"
        '<p class="note">Simulated data. Production signs in elsewhere. 模拟数据，非生产环境。</p>'
    )
