"""docs/semantics.md: its example runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"


def test_the_example_does_what_the_page_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    whole = [block for block in blocks if "import" in block]
    assert len(whole) == 1
    assert whole[0].count("assert") == 4
    exec(compile(whole[0], str(PAGE), "exec"), {"__name__": "semantics"})
