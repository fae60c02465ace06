"""docs/architecture.md lists every package as it is."""

from tests.support.package_tree import PAGE, package_tree


def test_every_package_is_listed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert package_tree() in text, "run `python -m tests.support.package_tree`"
