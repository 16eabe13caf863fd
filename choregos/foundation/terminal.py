"""Text of others on a terminal: what they say is shown, never obeyed.

An agent's exception, an event or a label may hold any character. Those that steer a terminal (ECMA-48: C0, DEL, C1) can
colour it, retitle it, or hide what was printed before; so they are shown as what they are.
"""

from __future__ import annotations

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_STEERING = str.maketrans({code: shown for code, shown in _CONTROLS.items() if chr(code) not in "\n\t"})
_IN_JSON = str.maketrans({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})


def printable(text: str) -> str:
    r"""`text` with control characters other than line feed and tab as `\x1b`."""
    return text.translate(_STEERING)


def printable_json(text: str) -> str:
    r"""JSON that says the same and holds no control characters: the standard asks to escape only those below blank."""
    return text.translate(_IN_JSON)
