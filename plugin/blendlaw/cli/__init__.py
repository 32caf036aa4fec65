"""The command line: one file per command, each registered through ``register_commands``.

Data goes to stdout or ``-o``, logs to stderr. Exit status: 0 done, 1 bad input, 2 bad usage.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from blendlaw.hookspecs import hookimpl

COMMANDS = ("fit", "predict", "synergy", "allocate", "blend", "check", "report", "convert", "demo")


@hookimpl
def register_commands(cli: click.Group) -> None:
    for name in COMMANDS:
        cli.add_command(import_module(f"blendlaw.cli.{name}").command)


def build() -> click.Group:
    """The ``blendlaw`` command with every plugin's commands."""
    from blendlaw.plugins import plugin_manager

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(package_name="blendlaw")
    def blendlaw() -> None:
        """Decide how much of each programming language to train on."""

    plugin_manager().hook.register_commands(cli=blendlaw)
    return blendlaw


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        status = build().main(arguments, prog_name="blendlaw", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our stdout went away: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (ValueError, OSError) as error:
        click.echo(f"blendlaw: {_one_line(error)}", err=True)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
