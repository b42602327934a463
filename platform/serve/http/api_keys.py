"""API keys: made once and shown once, kept as salted scrypt hashes in a file of JSON lines, and checked quickly."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from maskray.model.config import Config
from maskray.platform.files.atomic import replaced_file
from maskray.platform.job.config import NAME, first_mistake

PREFIX = "maskray"
SECRET_BYTES = 32
SALT_BYTES = 16
COST = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 40 ms for a guess
MOST_REMEMBERED = 1024
LOOK_AGAIN_SECONDS = 1.0

logger = logging.getLogger(__name__)


class StoredKey(Config):
    """One line of a key file; the key itself cannot be had from it."""

    name: str
    created: str = Field(description="ISO 8601 in UTC.")
    salt: str = Field(description="In base64, as the hash.")
    scrypt: str


def add_key(path: str | Path, name: str) -> str:
    """Make a key, write its hash to a file, which is made if it is missing, and return the key.

    Raises ValueError where the name is no plain one or is taken, or the file is no key file.
    """
    if not NAME.fullmatch(name) or "." in name:
        raise ValueError(f"{name!r} is not a plain name for a key: letters, digits, _ - only, not first _ or -")
    keys = read_keys(path) if Path(path).exists() else []
    if any(key.name == name for key in keys):
        raise ValueError(f"{path}: there is a key named {name} already")
    secret, salt = secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(SALT_BYTES)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    stored = StoredKey(name=name, created=created, salt=_text(salt), scrypt=_text(_hash(secret, salt)))
    _write_keys(path, [*keys, stored])
    return f"{PREFIX}.{name}.{secret}"


def remove_key(path: str | Path, name: str) -> None:
    """Take a key out of a file; a running server refuses it a second later. ValueError where it is not there."""
    keys = read_keys(path)
    if all(key.name != name for key in keys):
        raise ValueError(f"{path}: there is no key named {name}")
    _write_keys(path, [key for key in keys if key.name != name])


def read_keys(path: str | Path) -> list[StoredKey]:
    """The keys of a file; ValueError naming the line that is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as a key file: {getattr(error, 'strerror', None) or error}") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        try:
            key = StoredKey.model_validate_json(line)
            base64.b64decode(key.salt, validate=True), base64.b64decode(key.scrypt, validate=True)
        except ValidationError as error:
            raise ValueError(f"{path}: line {number} is not a stored key: {first_mistake(error)}") from None
        except ValueError:
            raise ValueError(f"{path}: line {number} is not a stored key: salt or hash is not base64") from None
        keys.append(key)
    return keys


class KeyRing:
    """The keys of a file, read again when it changes, and who they belong to.

    scrypt runs once for a key and in a thread of its own, so that guesses hold up no request but those with keys that
    were not seen yet. After that a key is known by an HMAC under a secret of this process: a request costs
    microseconds, and nothing in memory is the key.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError as read_keys does."""
        self._path = Path(path)
        self._secret = secrets.token_bytes(32)
        self._hashing = ThreadPoolExecutor(1, "keys")
        self._keys: dict[str, StoredKey] = {}
        self._known: dict[bytes, str] = {}
        self._wrong: set[bytes] = set()
        self._refused_for = ""
        self._read_at = (0, 0)
        self._look_again = 0.0
        self._read()

    async def find(self, key: str) -> str | None:
        """The name of a key that is valid, else none."""
        if time.monotonic() >= self._look_again:
            await asyncio.to_thread(self._refresh)
        digest = hmac.digest(self._secret, key.encode("utf-8", "surrogateescape"), "sha256")
        known = self._known
        if digest in known:  # of digests under our secret, so the time of the look-up tells nothing of a key
            return known[digest]
        prefix, _, rest = key.partition(".")
        name, _, secret = rest.partition(".")
        if prefix != PREFIX or name not in self._keys or not secret or digest in self._wrong:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._hashing, self._check, digest, name, secret)

    def _check(self, digest: bytes, name: str, secret: str) -> str | None:
        """As find(), in the one thread that hashes: a new key that comes many times at once is hashed once."""
        known, wrong = self._known, self._wrong  # before the keys: those may be read anew meanwhile, and these then too
        stored = self._keys.get(name)
        if digest in known or digest in wrong or stored is None:
            return known.get(digest)
        if hmac.compare_digest(_hash(secret, base64.b64decode(stored.salt)), base64.b64decode(stored.scrypt)):
            known[digest] = name
            return name
        if len(wrong) >= MOST_REMEMBERED:  # these alone: whoever guesses makes no good key unknown
            wrong.clear()
        wrong.add(digest)
        return None

    def _refresh(self) -> None:
        """Read a file that was changed; one that is damaged or gone lets nobody in, rather than those of before."""
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS
        try:
            if self._stamp() == self._read_at:
                return
            self._read()
        except (OSError, ValueError) as error:
            if str(error) != self._refused_for:  # once, not every second
                logger.error("nobody is let in, the key file cannot be read: %s", error)
            self._refused_for = str(error)
            self._keys, self._known, self._wrong, self._read_at = {}, {}, set(), (0, 0)

    def _read(self) -> None:
        stamp = self._stamp() if self._path.exists() else (0, 0)
        keys = read_keys(self._path)
        self._read_at = stamp
        self._keys = {key.name: key for key in keys}
        self._known, self._wrong, self._refused_for = {}, set(), ""
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS

    def _stamp(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino


def _write_keys(path: str | Path, keys: list[StoredKey]) -> None:
    """Write the file, for the owner alone."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path, mode=0o600) as temporary:
        temporary.write_text("".join(json.dumps(key.model_dump()) + "\n" for key in keys), encoding="utf-8")


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode("utf-8", "surrogateescape"), salt=salt, **COST)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
