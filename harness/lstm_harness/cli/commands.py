"""What every command has: examples in its help, and axes that may be switched on and off.

A group that is given no command shows its help.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lstm_harness.cli.examples import EXAMPLES
from lstm_harness.model.axes import SWITCH


class Command(TyperCommand):
    """A command whose axes that are on or off need no value: `--bias`, `--no-bias`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give every such axis that stands alone its value, then parse as usual."""
        switches = [each for each in self.params if each.secondary_opts and not _is_flag(each)]
        return super().parse_args(ctx, valued(args, switches))


class Group(TyperGroup):
    """A group of commands that shows its help where none of them is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Ask for the help where there is nothing else, but not while a shell completes a line."""
        return super().parse_args(ctx, args if args or ctx.resilient_parsing else ["--help"])


def valued(args: Sequence[str], switches: Iterable[Any]) -> list[str]:
    """The arguments, in which every switch has a value.

    Args:
        switches: parameters; `opts` turn one on, `secondary_opts` turn it off.
    """
    on = {flag for each in switches for flag in each.opts}
    off = {flag: each.opts[0] for each in switches for flag in each.secondary_opts}
    end = args.index("--") if "--" in args else len(args)
    found = list(args)
    for place, word in enumerate(args[:end]):
        if word in off:
            found[place] = f"{off[word]}=false"
        elif word in on and not any(map(_is_value, args[place + 1 : place + 2])):
            found[place] = f"{word}=true"
    return found


def dress(app: typer.Typer, path: str = "") -> None:
    """Give each command of an app, and of the groups in it, what every command has.

    Args:
        path: the words before a command's name.
    """
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        command.cls = Command
        command.epilog = "\n\n".join(["Examples:", *EXAMPLES[f"{path}{name}"]])
    for group in app.registered_groups:
        assert group.typer_instance is not None
        if group.name:
            group.cls = Group
        dress(group.typer_instance, f"{path}{group.name} " if group.name else path)


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False))


def _is_value(word: str) -> bool:
    return all(part.strip().lower() in SWITCH for part in word.split(","))
