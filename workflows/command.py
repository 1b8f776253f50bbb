"""The command workflows/run: first with any Python to find the environment, then again with the environment's own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import environment
from .environment import ComfyUI
from .failure import Failure

WORKFLOWS = Path(__file__).resolve().parent
DEMO = WORKFLOWS / "demo_video.json"
ENTERED = "--entered"
"""Marks the second start; followed by the ComfyUI that the first one found."""

DESCRIPTION = """\
Run a ComfyUI workflow with this pack on a real ComfyUI server.

Without a FILE: the demo, which samples the embedded video model in full, with every LeMiCa preset, and plainly with
as few steps, and ends with a table and an animated side-by-side picture."""

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
    options = _parser().parse_args(arguments[4:] if entered else arguments)
    try:
        if not entered:
            _check(options)
            return _enter(environment.find(), arguments)
        path, python, owned = arguments[1:4]
        return _run(ComfyUI(Path(path), Path(python), owned == "owned"), options)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workflows/run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a workflow, saved by ComfyUI in either format")
    parser.add_argument("--serve", action="store_true", help="start the server, print its address, leave it up until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="the server's port (default: one that is free)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the results go (default: output-lemica/DATE-TIME)")
    parser.add_argument("--prompt", action="append", default=[], metavar="NAME", help="demo: what to show; may be repeated")
    parser.add_argument("--seed", type=int, metavar="N", help="demo: the noise to start from")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Find mistakes before minutes are spent on an environment."""
    if options.file is not None:
        _read(options.file)
    if options.serve and options.file is not None:
        raise Failure("Give --serve or a FILE, not both: the page at the server's address opens any workflow.")


def _enter(comfy: ComfyUI, arguments: list[str]) -> int:
    """Start this command again with the Python that sees ComfyUI's packages."""
    python = environment.python_with(comfy, environment.COMPARE)
    kind = "owned" if comfy.owned else "found"
    command = [str(python), str(WORKFLOWS / "run"), ENTERED, str(comfy.path), str(comfy.python), kind, *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(python, command)
    return environment.attend(command)


def _run(comfy: ComfyUI, options: argparse.Namespace) -> int:
    from . import convert, demo
    from .client import queue
    from .server import Server

    output = options.output or Path("output-lemica") / time.strftime("%Y%m%d-%H%M%S")
    begin = time.monotonic()
    print(f"Starting ComfyUI at {comfy.path}", flush=True)
    with Server(comfy, output, port=options.port) as server:
        print(f"  up in {time.monotonic() - begin:.1f} s at {server.url}, log: {server.log}", flush=True)
        if options.serve:
            print("Open that address; Templates lists this pack's workflows. Ctrl-C stops the server.", flush=True)
            server.wait()
            raise Failure(f"{server.log_tail()}\nThe server ended by itself; its log: {server.log}")
        object_info = server.object_info()
        prompt = convert.to_prompt(_read(options.file or DEMO), object_info)
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
