"""Text between two marks of a page, which commands write."""

from __future__ import annotations


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with ``text`` between the marks of this name.

    Raises:
        ValueError: the page does not have each mark once, in order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs the lines {begin} and {end} once each")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"
