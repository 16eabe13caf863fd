"""The command `choregos`: the client's commands, and those that start something; and the plugin `kubectl choregos`."""

from __future__ import annotations

import sys


def main() -> None:
    from choregos.assembly import commands
    from choregos.cli import app

    sys.exit(app.run(sys.argv[1:], commands.register))


def kubectl_plugin() -> None:
    from choregos.cli import app

    sys.exit(app.run_as_plugin(sys.argv[1:]))


if __name__ == "__main__":
    main()
