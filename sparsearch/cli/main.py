"""`sparsearch`: the entry point, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from sparsearch.cli import exchange_commands, inspect_commands, job_commands, measure_command
from sparsearch.errors import SparsearchError

INTERRUPTED = 130

app = typer.Typer(
    help="Decide how much to prune where: build a supernet, search an allocation, export a checkpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
job_commands.register(app)
inspect_commands.register(app)
exchange_commands.register(app)
measure_command.register(app)


def main() -> None:
    """Runs the command line and exits with the code that the README lists."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of `sparsearch ARGUMENTS`; every expected error is one line on standard error."""
    # Their bars would tear ours apart, and mean nothing to who runs a job.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        result = app(arguments, standalone_mode=False)
    except SparsearchError as error:
        kind = "stopped" if error.exit_code in (75, 130, 143) else "error"
        print(f"{kind}: {error}", file=sys.stderr)
        return error.exit_code
    except typer.TyperException as error:
        error.show()  # type: ignore[attr-defined]
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except (BrokenPipeError, SystemExit):
        # Nobody reads any more (`sparsearch ls | head`), which typer turns into an exit; a second error would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        traceback.print_exc()
        print(
            f"internal error: {type(error).__name__}: {error}; please report it with the lines above",
            file=sys.stderr,
        )
        return 1
    # Typer answers a Ctrl-C with this number and no word.
    return _interrupted() if result == INTERRUPTED else result if isinstance(result, int) else 0


def _interrupted() -> int:
    print("stopped: interrupted; run the same command again to go on", file=sys.stderr)
    return INTERRUPTED
