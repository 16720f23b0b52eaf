"""The options that plan, run and verify share: the axes, and how to measure.

`takes_spec` gives a command all of them and hands it the `Spec` they make; `takes_problems` gives
one those that make problems, and few others.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lstm_harness.model.axes import AXES, PLAIN_CALL
from lstm_harness.model.spec import Spec, asked, suite_names
from lstm_harness.model.spec import names_in as names_in  # whose text is that of an option
from lstm_kernels import CELLS

_SIZES = "64, or 16,32, or 16:64:x2, or 8:64:+8"


def suites_like(incomplete: str) -> list[str]:
    """The suites whose name begins so, for a shell to complete it."""
    return [name for name in suite_names() if name.startswith(incomplete)]


def _axis(flags: tuple[str, ...], text: str, metavar: str = "LIST") -> Any:
    option = typer.Option(*flags, help=text, metavar=metavar, rich_help_panel="Axes")
    return Annotated[str | None, option]


def _switch(flag: str, text: str) -> Any:
    """An axis that is on or off; `commands.Command` gives one that stands alone its value."""
    return _axis((f"--{flag}/--no-{flag}",), text, metavar="[LIST]")


def _setting(kind: Any, flag: str, text: str, metavar: str | None = None) -> Any:
    option = typer.Option(flag, help=text, metavar=metavar, rich_help_panel="Measuring")
    return Annotated[kind | None, option]


_AXIS_HELP = {
    "cell": f"{', '.join(CELLS)}, or one of --plugin",
    "seq-len": f"T: {_SIZES}",
    "batch": f"B: {_SIZES}",
    "input": "I: as for T; default: hidden, the same as H",
    "hidden": f"H: {_SIZES}",
    "layers": "L: 1, or 1,2, or 1:8:x2",
    "proj": "P, the size that an lstm's h is projected to; default 0, none",
    "heads": "N: w_hh is block-diagonal with N blocks, one a head; default 1",
    "dtype": "float32, float64, float16, bfloat16",
    "precision": "ieee, tf32, w8: how float32 products are made; w8: int8 weights, inference only",
    "lengths": "full, uniform:LOW:HIGH, or a named distribution of lengths",
    "pass": "inference, forward, backward, train",
    "launch": "eager, graph (replayed from a CUDA graph)",
    "cache": "warm, cold (last-level cache flushed before each sample)",
    "dropout": "between layers in training: 0.3, or 0,0.3; default 0",
    "autocast": "none, bfloat16, float16: of a torch.autocast around a float32 layer",
}

_SWITCH_HELP = {
    "bidirectional": "alone means true; both: true,false",
    "bias": "true is the default; both: true,false",
    "batch-first": "x and y are [B, T, features]; alone means true; both: true,false",
}
# What an option was called before.
_ALIASES = {"proj": ("--proj",)}

# `pass` cannot be the name of a parameter, so every axis's parameter has a prefix.
_AXIS_PARAMETERS = {name: "axis_" + name.replace("-", "_") for name in AXES}
_AXIS_OPTIONS = {
    _AXIS_PARAMETERS[name]: (
        _axis((f"--{axis.flag}", *_ALIASES.get(name, ())), _AXIS_HELP[name])
        if name in _AXIS_HELP
        else _switch(axis.flag, _SWITCH_HELP[name])
    )
    for name, axis in AXES.items()
}

# Options that are a field of `Spec` under the same name.
_SETTING_OPTIONS = {
    "device": _setting(str, "--device", "auto, cpu, cuda; auto is cuda where there is one"),
    "threads": _setting(int, "--threads", "CPU threads; default: all physical cores"),
    "blocks": _setting(
        int, "--blocks", "rounds of fresh worker processes; default 3, or a suite's"
    ),
    "min_samples": _setting(int, "--min-samples", "samples a block, at least; default 10"),
    "rel_ci": _setting(
        float,
        "--rel-ci",
        "stop sampling once the median's 95% interval is this narrow; default 0.02",
    ),
    "cell_timeout_s": _setting(
        float, "--cell-timeout", "limit for one (backend, case); default 120", "SECONDS"
    ),
    "time_budget_s": _setting(float, "--time-budget", "limit for the whole run", "SECONDS"),
    "seed": _setting(int, "--seed", "seed of the order and of the inputs; default 0"),
    "label": _setting(str, "--label", "a name for the run"),
}

_SOURCES = {
    "suite": Annotated[
        str | None,
        typer.Argument(
            metavar="SUITE",
            help="a named suite (see lstm-bench suites), or a file: mine.toml",
            autocompletion=suites_like,
        ),
    ],
    "spec_file": Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="a suite of your own, in TOML")
    ],
    "backend": _axis(("--backend",), "names; default: every one that runs here"),
    "plugin": Annotated[
        list[str] | None,
        typer.Option(
            "--plugin", metavar="FILE.py", help="a file with BACKENDS or CELLS; repeatable"
        ),
    ],
}

# With as many, what a verdict promises was simulated (docs/method.md, A verdict).
PAIRED_BLOCKS = 8

_OPTIONS = {**_SOURCES, **_AXIS_OPTIONS, **_SETTING_OPTIONS}
_PAIRED_OPTIONS = {
    "suite": Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="NAME",
            help="a named suite: see lstm-bench suites",
            autocompletion=suites_like,
        ),
    ],
    "blocks": _setting(
        int, "--blocks", f"rounds of fresh workers of both sides; default {PAIRED_BLOCKS}, least 5"
    ),
    "time_budget_s": _setting(
        float,
        "--time-budget",
        "limit for sampling both sides once; the start of workers is not counted",
        "SECONDS",
    ),
}


def takes_spec(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command, whose first parameter is the spec, every option that makes one."""
    return _with_spec(command, _OPTIONS, {})


def takes_paired_spec(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The same for a command that judges: enough blocks, and the suite is an option."""
    return _with_spec(command, _OPTIONS | _PAIRED_OPTIONS, {"blocks": PAIRED_BLOCKS})


def takes_shapes(
    fallback: str,
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """The same for a command that takes its default shapes from a file.

    Its spec is None where none of these options is given.

    Args:
        fallback: the file, in the current folder.
    """

    def decorate(command: Callable[..., int | None]) -> Callable[..., int | None]:
        def with_spec(**given: Any) -> int | None:
            shared = {name: given.pop(name) for name in _OPTIONS}
            asked = {name for name, value in shared.items() if value is not None and value != []}
            if not asked:
                return command(None, **given)
            if not asked & {"suite", "spec_file", *_AXIS_OPTIONS}:
                shared["suite"] = fallback
            return command(spec_of(**shared), **given)

        _take_on(with_spec, _parameters(command, _OPTIONS), command)
        return with_spec

    return decorate


def _with_spec(
    command: Callable[..., int | None], options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Callable[..., int | None]:
    def with_options(**given: Any) -> int | None:
        shared = {name: given.pop(name) for name in options}
        shared |= {name: value for name, value in defaults.items() if shared[name] is None}
        return command(spec_of(**shared), **given)

    _take_on(with_options, _parameters(command, options), command)
    return with_options


def _parameters(command: Callable[..., Any], options: Mapping[str, Any]) -> list[inspect.Parameter]:
    """These options, then the command's own except the first, which is the spec."""
    own = list(inspect.signature(command).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]
    return shared + [parameter.replace(kind=keyword) for parameter in own]


# Axes of a measurement; a problem has none of them.
_NO_PROBLEMS = tuple(_AXIS_PARAMETERS[name] for name in ("pass", "launch", "cache", *PLAIN_CALL))


def takes_problems(
    defaults: Mapping[str, str],
    settings: tuple[str, ...] = (),
    presets: Mapping[str, Any] | None = None,
    helps: Mapping[str, str] | None = None,
    measured: tuple[str, ...] = (),
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Give a command, whose first parameter is the spec, the options that make problems.

    Args:
        defaults: what axes take that are not given, where there is no suite either.
        settings: further options of `takes_spec` that the command has.
        presets: what some of these take that are not given, whatever a suite says.
        helps: what the help says of some of these, where it is not what it says elsewhere.
        measured: axes of a measurement that the command has, too.
    """
    reworded = {name: _axis((f"--{name}",), said) for name, said in (helps or {}).items()}

    def decorate(command: Callable[..., int | None]) -> Callable[..., int | None]:
        full = takes_spec(command)
        every = inspect.signature(full).parameters
        own = list(inspect.signature(command).parameters)[1:]
        others = set(_NO_PROBLEMS) - {_AXIS_PARAMETERS[name] for name in measured}
        axes = [name for name in every if name.startswith("axis_") and name not in others]
        kept = [every[name] for name in (*own, "suite", "spec_file", *settings, *axes)]
        kept = [p.replace(annotation=reworded.get(p.name, p.annotation)) for p in kept]
        dropped = dict.fromkeys(every.keys() - {parameter.name for parameter in kept})

        def with_options(**given: Any) -> int | None:
            if given["suite"] is None and given["spec_file"] is None:
                missing = [name for name in defaults if given[name] is None]
                given |= {name: defaults[name] for name in missing}
            preset = (presets or {}).items()
            given |= {name: value for name, value in preset if given[name] is None}
            return full(**given, **dropped)

        _take_on(with_options, kept, command)
        return with_options

    return decorate


def _take_on(
    function: Callable[..., Any], parameters: list[inspect.Parameter], command: Callable[..., Any]
) -> None:
    """Make a function look, to typer, like a command with these parameters."""
    signature = inspect.Signature(parameters, return_annotation=int | None)
    function.__signature__ = signature  # type: ignore[attr-defined] # typer asks a function for it
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    function.__name__ = command.__name__
    function.__doc__ = command.__doc__


def spec_of(
    suite: str | None,
    spec_file: Path | None,
    backend: str | None,
    plugin: list[str] | None,
    **options: Any,
) -> Spec:
    """The spec that options make; see `model.spec.asked`.

    Raises:
        UserError: a value that cannot be, or two sources of shapes at once.
    """
    given = {name: value for name, value in options.items() if value is not None}
    axes = {name: given[p] for name, p in _AXIS_PARAMETERS.items() if p in given}
    settings = {name: value for name, value in given.items() if name in _SETTING_OPTIONS}
    if backend is not None:
        settings["backends"] = names_in(backend)
    return asked(suite, spec_file, plugin or (), axes, settings)
