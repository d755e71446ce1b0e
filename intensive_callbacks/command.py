"""Where every command ends: an error is one line and an exit code, and a traceback only with ``--debug``."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from intensive_callbacks.untrusted import reason

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTION = "--debug"
_debug = ContextVar("debug", default=False)


class Commands(TyperGroup):
    """A group of commands that takes ``--debug`` wherever it stands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the option, and leave the rest to the commands."""
        token = _debug.set(_OPTION in args or _debug.get())
        ctx.call_on_close(lambda: _debug.reset(token))
        return super().parse_args(ctx, [word for word in args if word != _OPTION])


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are one line each, ``command: reason`` on standard error.

    An argument that cannot be used ends the process with exit code 2, everything else with 1. With ``--debug`` the
    exception passes.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            # Whoever read the output has gone; what Python would still flush goes nowhere.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (Exception, SystemExit) as error:
            if _debug.get():
                raise
            name = command.__name__.removesuffix("_command")
            typer.echo(f"{name}: {_described(error)}", err=True)
            raise typer.Exit(2 if isinstance(error, typer.BadParameter) else 1) from error

    return run


def _described(error: BaseException) -> str:
    """An expected error by its message, another one by its type as well."""
    if isinstance(error, SystemExit):
        return f"the code that was named ended the process with exit code {reason(error)}"
    if isinstance(error, (KeyError, OSError, ValueError, ModuleNotFoundError, typer.BadParameter)):
        return reason(error)
    return f"{type(error).__name__}: {reason(error)}"
