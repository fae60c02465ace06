"""A tenant names what lies below the folders that are its own, and nothing else."""

import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.intake.picture_urls.allowed_prefixes import AllowedPrefix, AllowedPrefixes

ALLOWED = AllowedPrefixes(
    {
        "shop": ["s3://bucket/shop", "https://pictures.example:8443/shop/", "file:///srv/shop", "file:///srv/my shop"],
        "zoo": [],
        "*": ["s3://bucket/all/"],
    }
)


@pytest.mark.parametrize(
    ("tenant", "url", "prefix", "rest"),
    [
        ("shop", "s3://bucket/shop/cat/1 é.jpg", "s3://bucket/shop/", "cat/1 é.jpg"),
        ("shop", "file:///srv/shop/a..b/...", "file:///srv/shop/", "a..b/..."),
        ("shop", "file:///srv/my%20shop/a%20b%3Fc%2Bd%23.jpg", "file:///srv/my shop/", "a b?c+d#.jpg"),
        ("shop", "file:///srv/my shop/100%.jpg", "file:///srv/my shop/", "100%.jpg"),
        (
            "shop",
            "https://pictures.example:8443/shop/1.jpg?size=a/../b",
            "https://pictures.example:8443/shop/",
            "1.jpg?size=a/../b",
        ),
        ("another", "s3://bucket/all/1.jpg", "s3://bucket/all/", "1.jpg"),
    ],
)
def test_what_lies_below_a_folder_is_found(tenant: str, url: str, prefix: str, rest: str) -> None:
    found, named = ALLOWED.find(tenant, url)
    assert (found.url, named) == (prefix, rest)


@pytest.mark.parametrize(
    ("tenant", "url"),
    [
        ("shop", "s3://bucket/all/1.jpg"),
        ("zoo", "s3://bucket/all/1.jpg"),
        ("another", "s3://bucket/shop/1.jpg"),
        ("shop", "s3://bucket/shopping/1.jpg"),
        ("shop", "s3://bucket/shop"),
        ("shop", "s3://bucket/shop/"),
        ("shop", "S3://bucket/shop/1.jpg"),
        ("shop", "s3a://bucket/shop/1.jpg"),
        ("shop", "bucket/shop/1.jpg"),
        ("shop", "/srv/shop/1.jpg"),
        ("shop", "file://srv/shop/1.jpg"),
        ("shop", "file:///srv/shop/../secret"),
        ("shop", "file:///srv/shop/a/../../secret"),
        ("shop", "file:///srv/shop/a/.."),
        ("shop", "file:///srv/shop/./a"),
        ("shop", "file:///srv/shop//etc/passwd"),
        ("shop", "file:///srv/shop/a//b"),
        ("shop", "file:///srv/shop/..\\secret"),
        ("shop", "file:///srv/shop/a\x00b"),
        ("shop", "file:///srv/shop/%2e%2e/secret"),
        ("shop", "file:///srv/shop/%252e%252e/secret"),
        ("shop", "file:///srv/shop/%25252525252e./secret"),
        ("shop", "https://pictures.example:8443/shop/%2E./secret"),
        ("shop", "https://pictures.example:8443/%73hop/1.jpg"),
        ("shop", "file:///srv/shop/a%3A%3Ab"),
        ("shop", "https://pictures.example:8443/shop/..%2fsecret"),
        ("shop", "https://pictures.example:8443/shop/..%5csecret"),
        ("shop", "https://pictures.example:8443/shop/?x=1"),
        ("shop", "https://pictures.example/shop/1.jpg"),
        ("shop", "https://pictures.example:8443@evil.example/shop/1.jpg"),
        ("shop", "https://user@pictures.example:8443/shop/1.jpg"),
        ("shop", "zip://1.jpg::s3://bucket/shop/1.zip"),
        ("shop", "s3://bucket/shop/1.zip::file:///etc/passwd"),
        ("shop", "simplecache::s3://bucket/shop/1.jpg"),
        ("shop", ""),
    ],
)
def test_what_lies_elsewhere_is_refused(tenant: str, url: str) -> None:
    with pytest.raises(InvalidRequest, match="dataref"):
        ALLOWED.find(tenant, url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bucket/shop",
        "/srv",
        "http://pictures.example/",
        "https://",
        "https://Pictures.example/",
        "https://user@pictures.example/",
        "https://pictures.example/a?b/",
        "file://srv/shop",
        "file:///srv/../etc",
        "file:///srv/%2e%2e/etc",
        "s3://bucket//shop",
        "s3://bucket/shop::file:///",
        "zip://",
        "reference://x/",
        "simplecache::s3://bucket/",
        "data:x",
        "*",
    ],
)
def test_what_names_no_folder_is_no_prefix(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no prefix of URLs"):
        AllowedPrefix.of(text)


@pytest.mark.parametrize("text", ["file:///", "memory://", "s3://bucket", "https://pictures.example"])
def test_a_whole_store_is_one(text: str) -> None:
    assert AllowedPrefix.of(text).url in {text, f"{text}/"}


def test_the_hosts_of_all_tenants_are_those_that_are_fetched_from() -> None:
    assert ALLOWED.hosts() == {"pictures.example:8443"}
