"""The command `choregos`: the client's commands, and those that start something."""

from __future__ import annotations

import sys


def main() -> None:
    from choregos.assembly import commands
    from choregos.cli import app

    sys.exit(app.run(sys.argv[1:], commands.register))


if __name__ == "__main__":
    main()
