"""What a key may be, and the file name that stands for it."""

import re
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

SUFFIX = ".safetensors"
TEMPORARY = ".tmp."
"""How the names of half-written files start; no key's file name starts with a dot."""

_PLAIN = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_~./-]{0,59}")
"""Keys in which only `/` needs an escape: nearly all of them, by a shorter way."""
_LONGEST = 200
_READABLE = 80


def check_key(key: object) -> None:
    """Raise TypeError where `key` is not a str and ValueError where it is empty; everything else is a key."""
    if not isinstance(key, str):
        raise TypeError(f"A staging key is a str, not {type(key).__name__}: {key!r:.80}")
    if not key:
        raise ValueError("A staging key has at least one character; this one is empty.")


@lru_cache(maxsize=256)
def file_name(key: str) -> str:
    """Return the file name for `key`: no two keys share one, and none leaves its folder.

    Short keys are percent-encoded, which can be read and reversed (`snapshot/0/7` is `snapshot%2F0%2F7.safetensors`).
    Longer ones become their beginning, a `#` (which percent-encoding never yields) and their SHA-256.
    """
    if _PLAIN.fullmatch(key):
        return f"{key.replace('/', '%2F')}{SUFFIX}"
    quoted = quote(key, safe="", errors="surrogatepass")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _LONGEST:
        quoted = f"{quoted[:_READABLE]}#{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return quoted + SUFFIX
