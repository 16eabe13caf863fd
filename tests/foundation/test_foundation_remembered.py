from __future__ import annotations

from choregos.foundation.remembered import remembered


def test_what_short_texts_were_read_as_is_kept_and_no_long_one() -> None:
    seen: list[str] = []

    @remembered(entries=2, length_max=3)
    def words(text: str, sign: str) -> list[str]:
        seen.append(text)
        return text.split(sign)

    assert words("a,b", ",") is words("a,b", ",")
    assert words("a,b", ";") == ["a,b"]
    assert words("a,b,", ",") is not words("a,b,", ",")
    assert seen == ["a,b", "a,b", "a,b,", "a,b,"]
    words("c", ",")
    words("d", ",")
    words("a,b", ",")
    assert seen[-1] == "a,b"
