"""The command workflows/run: first with any Python to find the environment, then again with the environment's own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import environment
from .environment import ComfyUI
from .failure import Failure

WORKFLOWS = Path(__file__).resolve().parent
EXAMPLES = WORKFLOWS.parent / "example_workflows"
DEMO = EXAMPLES / "demo_video.json"
CALIBRATE = "calibrate"
"""The word that asks for a calibration, in place of a FILE."""
LEARN = "learn"
"""The word that asks for learning, in place of a FILE."""
EFFORTS = ("short", "normal", "exact")
ENTERED = "--entered"
"""Marks the second start; followed by the ComfyUI that the first one found."""

DESCRIPTION = """\
Run a ComfyUI workflow with this pack on a real ComfyUI server.

Without a FILE: the demo, which samples the embedded video model in full, with every LeMiCa preset, and plainly with
as few steps, and ends with a table and an animated side-by-side picture.

`workflows/run calibrate` measures what reusing steps costs that model, and saves schedules; see
`workflows/run calibrate --help`. `workflows/run learn` makes three pictures in full, learns from them, and then compares as
the demo does; see `workflows/run learn --help`."""

CALIBRATE_DESCRIPTION = """\
Calibrate the embedded video model on a real ComfyUI server.

Samples some prompts in full, finds from that which steps to compute and how to make the others from them, and saves the
schedule for every preset where later runs of this command find it. Ends with a table and the picture of the error graph.
It can be stopped: with the same name and settings it goes on where it was, and measures nothing twice."""

LEARN_DESCRIPTION = """\
Learn from pictures of the embedded video model on a real ComfyUI server.

Makes some clips in full with a LeMiCa node that learns from them, and then compares, on other prompts and seeds, full runs
with those that follow what was learned: the demo's table, at a number of steps that the pack has no schedule for."""

EPILOG = """\
environment variables:
  COMFYUI_PATH      the ComfyUI to use: the folder that holds its main.py. Its files are left as they are.
                    Not set: ComfyUI 0.30.0 with torch is built once in a cache folder.
  COMFYUI_PYTHON    the Python that runs COMFYUI_PATH, if it is not the one of its venv
  COMFYUI_ARGS      more arguments for ComfyUI's main.py, such as "--lowvram"
  LEMICA_CACHE_DIR  the cache folder; by default comfyui-lemica in XDG_CACHE_HOME or ~/.cache"""


def main() -> int:
    """Run the command; return its exit code."""
    signal.signal(signal.SIGTERM, environment.stop_once)
    arguments = sys.argv[1:]
    entered = arguments[:1] == [ENTERED]
    options = _options(arguments[4:] if entered else arguments)
    try:
        if not entered:
            _check(options)
            packages = environment.COMPARE | (environment.RAY if options.calibrate and options.ray else {})
            return _enter(environment.find(), arguments, packages)
        path, python, owned = arguments[1:4]
        # With Ray, the server runs in the Python of this start, which has it beside ComfyUI's packages.
        chosen = sys.executable if options.calibrate and options.ray else python
        return _run(ComfyUI(Path(path), Path(chosen), owned == "owned"), options)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _options(arguments: list[str]) -> argparse.Namespace:
    if arguments[:1] == [CALIBRATE]:
        return _calibrate_parser().parse_args(arguments[1:])
    if arguments[:1] == [LEARN]:
        return _learn_parser().parse_args(arguments[1:])
    return _parser().parse_args(arguments)


def _calibrate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workflows/run calibrate",
        description=CALIBRATE_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, metavar="N", help="the steps of a run (default: 20)")
    parser.add_argument(
        "--effort", "--mode", dest="mode", choices=EFFORTS,
        help="how much the model runs (default: short; exact takes far longest)",
    )
    parser.add_argument("--samples", type=int, metavar="N", help="how many prompts to measure with (default: 4)")
    parser.add_argument("--name", help="what to call the calibration (default: after model, steps and sampler)")
    parser.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS",
        help="measure on Ray: the cluster at ADDRESS or auto; without one Ray is started on this machine",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --ray: how many workers (default: one for every GPU)"
    )
    _add_places(parser)
    parser.set_defaults(calibrate=True, learn=False, file=EXAMPLES / "calibrate.json", serve=False)
    return parser


def _learn_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workflows/run learn",
        description=LEARN_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=24, metavar="N", help="the steps of a run (default: 24)")
    parser.add_argument("--pictures", type=int, default=3, metavar="N", help="how many to learn from (default: 3)")
    _add_places(parser)
    parser.add_argument(
        "--refine", action="store_true", help="make each once more at its preset, and one more for each of the other presets"
    )
    parser.set_defaults(calibrate=False, learn=True, file=None, serve=False)
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workflows/run",
        usage="workflows/run [options] [FILE]\n       workflows/run calibrate [options]\n       workflows/run learn [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", nargs="?", type=_workflow, metavar="FILE",
        help="a workflow, saved by ComfyUI in either format, or the name of one in example_workflows",
    )
    parser.add_argument("--serve", action="store_true", help="start the server, print its address, leave it up until Ctrl-C")
    _add_places(parser)
    parser.add_argument("--prompt", action="append", default=[], metavar="NAME", help="demo: what to show; may be repeated")
    parser.add_argument("--seed", type=int, metavar="N", help="demo: the noise to start from")
    parser.set_defaults(calibrate=False, learn=False)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the server and the results are."""
    parser.add_argument("--port", type=int, default=0, metavar="N", help="the server's port (default: one that is free)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the results go (default: output-lemica/DATE-TIME)")


def _workflow(text: str) -> Path:
    """The file that is meant: where there is none of this name, the pack's example of this name."""
    path = Path(text)
    example = EXAMPLES / f"{path.name.removesuffix('.json')}.json"
    ours = path.parent == Path() or path.absolute().parent == WORKFLOWS
    return example if ours and not path.is_file() and example.is_file() else path


def _check(options: argparse.Namespace) -> None:
    """Find mistakes before minutes are spent on an environment."""
    if options.file is not None:
        _read(options.file)
    if options.serve and options.file is not None:
        raise Failure("Give --serve or a FILE, not both: the page at the server's address opens any workflow.")
    if options.calibrate and options.steps is not None and options.steps < 2:
        raise Failure(f"--steps is {options.steps}: a run needs 2 steps or more to reuse any.")
    if options.learn and options.steps < 8:
        raise Failure(f"--steps is {options.steps}: with fewer than 8 there is little to gain.")
    if options.learn and options.pictures < 1:
        raise Failure(f"--pictures is {options.pictures}: one or more is needed.")
    if options.calibrate and options.samples is not None and options.samples < 1:
        raise Failure(f"--samples is {options.samples}: one prompt or more is needed.")
    if options.calibrate and options.workers is not None and (options.ray is None or options.workers < 1):
        raise Failure(f"--workers is {options.workers}: give 1 or more, together with --ray.")


def _enter(comfy: ComfyUI, arguments: list[str], packages: dict[str, str]) -> int:
    """Start this command again with the Python that sees ComfyUI's packages."""
    python = environment.python_with(comfy, packages)
    kind = "owned" if comfy.owned else "found"
    command = [str(python), str(WORKFLOWS / "run"), ENTERED, str(comfy.path), str(comfy.python), kind, *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(python, command)
    return environment.attend(command)


def _run(comfy: ComfyUI, options: argparse.Namespace) -> int:
    from . import calibration, convert, demo, learn
    from .client import queue
    from .server import Server

    output = options.output or Path("output-lemica") / time.strftime("%Y%m%d-%H%M%S")
    begin = time.monotonic()
    print(f"Starting ComfyUI at {comfy.path}", flush=True)
    server = Server(comfy, output, port=options.port)
    if options.calibrate and options.ray:
        calibration.offer(server.user, options.ray)
    with server:
        print(f"  up in {time.monotonic() - begin:.1f} s at {server.url}, log: {server.log}", flush=True)
        if options.serve:
            print("Open that address; Templates lists this pack's workflows. Ctrl-C stops the server.", flush=True)
            server.wait()
            raise Failure(f"{server.log_tail()}\nThe server ended by itself; its log: {server.log}")
        object_info = server.object_info()
        prompt = convert.to_prompt(_read(options.file or DEMO), object_info)
        if options.calibrate:
            changes = calibration.Changes(
                options.steps, options.mode, options.samples, options.name, options.ray, options.workers
            )
            files = calibration.run(server, calibration.changed(prompt, object_info, changes))
            return _tell(files)
        if options.learn:
            return _tell(learn.run(server, prompt, object_info, options.steps, options.pictures, options.refine))
        _set_seed(prompt, options.seed)
        if demo.branches(prompt):
            files = demo.run(server, prompt, demo.demo_prompts(prompt, object_info, options.prompt))
        else:
            if options.prompt:
                raise Failure("--prompt is for comparisons such as the demo: in other workflows edit the file.")
            execution = queue(server, prompt, print)
            for event in execution.lemica:
                print(event["line"])
            files = [path for paths in execution.files(server.output).values() for path in paths]
    return _tell(files)


def _tell(files: Sequence[Path]) -> int:
    print("Written:")
    for path in files:
        print(f"  {path}")
    return 0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}. Give the path of a workflow JSON file.") from error
    except ValueError as error:
        raise Failure(f"{path} is no JSON file ({error}). Save the workflow again in ComfyUI.") from error


def _set_seed(prompt: dict[str, Any], seed: int | None) -> None:
    for node in prompt.values():
        if seed is not None and "seed" in node["inputs"]:
            node["inputs"]["seed"] = seed
