"""Check which URLs a tenant may name: only those below the folders that the operator lists."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.invisible_characters import unseen_character
from visual_memory.services.settings import HOST_PATTERN

HTTPS = "https"
FILE = "file"
STORES = frozenset(
    {
        *(FILE, HTTPS, "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss"),
        *("hdfs", "webhdfs", "sftp", "ssh", "smb", "ftp"),
    }
)
"""Schemes of stores in which one URL is one object; others chain to another URL within it."""
EVERYONE = "*"
MAX_DECODED = 4
"""How many times a URL may be percent-encoded; more is refused."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")


@dataclass(frozen=True)
class AllowedPrefix:
    """A folder below which URLs are allowed.

    Attributes:
        scheme: of its URL.
        url: its URL, which ends with a slash.
    """

    scheme: str
    url: str

    @classmethod
    def of(cls, text: str) -> "AllowedPrefix":
        """Parse the URL of a folder, with or without a slash at its end.

        Raises:
            InvalidRequest: it is not the URL of a folder.
        """
        found = _SCHEME.match(text)
        if found is None or found[1] not in STORES:
            raise InvalidRequest(f"{text!r} is no prefix of URLs: it begins with {'://, '.join(sorted(STORES))}://")
        url = text if text.endswith("/") else f"{text}/"
        rest = url.removeprefix(found[0]).removesuffix("/")
        if found[1] == FILE:
            rest = rest.removeprefix("/")
        if found[1] == HTTPS and not re.match(HOST_PATTERN, rest.split("/")[0]):
            raise InvalidRequest(f"{text!r} is no prefix of URLs: https:// is followed by a host in lower case")
        if re.search(r"[?#]", rest) or _leads_elsewhere(rest) or (found[1] == FILE and not url.startswith("file:///")):
            raise InvalidRequest(f"{text!r} is no prefix of URLs: it names a folder, without ? # :: and ..")
        return cls(found[1], url)

    def rest(self, url: str) -> str | None:
        """The part of a URL after the folder; None if the URL is not below it."""
        return url.removeprefix(self.url) if url.startswith(self.url) else None


class AllowedPrefixes:
    """The folders of all tenants.

    Args:
        allowed: URLs of folders by tenant; those of ``*`` are for every tenant that is not listed.

    Raises:
        InvalidRequest: one is not the URL of a folder.
    """

    def __init__(self, allowed: Mapping[str, Sequence[str]]) -> None:
        self._of = {tenant: [AllowedPrefix.of(each) for each in urls] for tenant, urls in allowed.items()}

    def schemes(self) -> set[str]:
        """The schemes of all folders."""
        return {prefix.scheme for of_one in self._of.values() for prefix in of_one}

    def hosts(self) -> frozenset[str]:
        """The hosts of all https folders, with ``:port`` if it is given."""
        prefixes = (prefix for of_one in self._of.values() for prefix in of_one if prefix.scheme == HTTPS)
        return frozenset(prefix.url.split("/")[2] for prefix in prefixes)

    def find(self, tenant: str, url: str) -> tuple[AllowedPrefix, str]:
        """The folder that contains a URL, and the rest of the URL as the store expects it: decoded, except for https.

        Raises:
            InvalidRequest: this tenant may not name the URL.
        """
        for prefix in self._of.get(tenant, self._of.get(EVERYONE, ())):
            is_decoded = prefix.scheme != HTTPS  # other stores, and files, use unencoded names
            rest = prefix.rest(unquote(url) if is_decoded else url)
            if rest is None:
                continue
            path = rest if is_decoded else rest.split("?")[0]
            if not path or _leads_elsewhere(path):
                raise InvalidRequest("dataref: a URL names an object below its folder, without empty parts, .. and ::")
            return prefix, rest
        raise InvalidRequest(
            "dataref: this URL is not below a folder that this tenant may name (intake.references): send the picture"
            " itself"
        )


def _leads_elsewhere(path: str) -> bool:
    """Whether a path may leave its folder, as it is or after percent-decoding it once or several times."""
    for _ in range(MAX_DECODED):
        if "\\" in path or "::" in path or unseen_character(path) is not None:
            return True
        if not {"", ".", ".."}.isdisjoint(path.split("/")) and path:
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True
