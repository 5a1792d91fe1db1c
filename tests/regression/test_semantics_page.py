"""docs/semantics.md: its examples run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
WHOLE = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "import" in block]


@pytest.mark.parametrize(("example", "claims"), [("shop", 3), ("clicks", 4)])
def test_an_example_does_what_the_page_says(example: str, claims: int) -> None:
    (block,) = [block for block in WHOLE if f'Pipeline("{example}")' in block]
    assert block.count("assert") == claims
    exec(compile(block, str(PAGE), "exec"), {"__name__": "semantics"})


def test_no_example_is_left_out() -> None:
    assert len(WHOLE) == 2
