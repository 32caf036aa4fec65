"""The command line: one file per command, each registered through ``register_commands``.

Data goes to stdout or ``-o``, logs to stderr. Exit status: 0 done, 1 bad input, 2 bad usage.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

import click

from blendlaw.errors import InputError
from blendlaw.hookspecs import hookimpl

COMMANDS = (
    "fit",
    "predict",
    "synergy",
    "allocate",
    "experiments",
    "blend",
    "check",
    "report",
    "convert",
    "corpus",
    "pairs",
    "translate_eval",
    "sweep",
    "demo",
)
MOST = 1000  # characters of a message


@hookimpl
def register_commands(cli: click.Group) -> None:
    for name in COMMANDS:
        cli.add_command(import_module(f"blendlaw.cli.{name}").command)


def build() -> click.Group:
    """The ``blendlaw`` command with every plugin's commands."""
    from blendlaw.plugins import plugin_manager

    @click.group(
        context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
    )
    @click.version_option(package_name="blendlaw")
    @click.pass_context
    def blendlaw(context: click.Context) -> None:
        """Decide how much of each programming language to train on."""
        if context.invoked_subcommand is None:
            click.echo(context.get_help(), err=True)
            context.exit(2)

    plugin_manager().hook.register_commands(cli=blendlaw)
    return blendlaw


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        status = build().main(arguments, prog_name="blendlaw", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        _say(error.format_message() + hint)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our stdout went away: not an error of ours
        _abandon_stdout()
        sys.exit(0)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            _say(f"{error.filename}: {error.strerror}")
        elif isinstance(error, InputError | OSError):
            _say(str(error))
        else:  # not one of ours, nor a plugin's: say so rather than blame the input
            _say(f"unexpected {type(error).__name__}: {error} (please report it)")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _abandon_stdout()
        sys.exit(1)


def _say(message: str) -> None:
    """One line on stderr, without characters that a terminal would act upon."""
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line[:MOST])
    click.echo(f"blendlaw: {shown}{'…' if len(line) > MOST else ''}", err=True)


def _abandon_stdout() -> None:
    """Let what stdout still holds go nowhere, or Python would fail once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
