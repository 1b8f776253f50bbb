"""Trains the demo model. Each command reads and writes one work folder; see README.md beside this file."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "nodes" / "demo_model"
"""Where the node that loads the model looks for it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo_model_training"), help="work folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads; by default torch decides")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download the emoji from the npm registry")
    vae = commands.add_parser("vae", help="one stage of the VAE's training")
    vae.add_argument("stage", choices=("frames", "clips", "align", "decoder"))
    vae.add_argument("--minutes", type=float, required=True)
    latents = commands.add_parser("latents", help="encode the clips and normalise the latents")
    latents.add_argument("--variants", type=int, default=48)
    transformer = commands.add_parser("transformer", help="train the transformer on the latents")
    transformer.add_argument("--minutes", type=float, required=True)
    commands.add_parser("export", help="write the files that ComfyUI loads, into nodes/demo_model")
    samples = commands.add_parser("samples", help="sample every prompt with ComfyUI and draw a contact sheet")
    samples.add_argument("--output", type=Path, default=Path("samples.png"))
    samples.add_argument("--steps", type=int, default=30)
    samples.add_argument("--cfg", type=float, default=4.0)
    samples.add_argument("--shift", type=float, default=5.0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    if "COMFYUI_PATH" not in os.environ:
        parser.error("set COMFYUI_PATH to the folder of a ComfyUI")
    sys.path[:0] = [str(HERE), os.environ["COMFYUI_PATH"]]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args
    import torch

    comfy.cli_args.args.cpu = not torch.cuda.is_available()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(arguments.seed)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    folder, seed = arguments.folder, arguments.seed
    if arguments.command == "fetch":
        import clips

        clips.fetch(folder)
    elif arguments.command == "vae":
        import vae_training

        if arguments.stage == "align":
            vae_training.align(folder, arguments.minutes, seed)
        else:
            vae_training.train(folder, arguments.stage, arguments.minutes, seed)
    elif arguments.command == "latents":
        import vae_training

        vae_training.encode_clips(folder, arguments.variants, seed)
    elif arguments.command == "transformer":
        import transformer_training

        transformer_training.train(folder, arguments.minutes, seed)
    elif arguments.command == "export":
        import export

        export.export(folder, TARGET)
    else:
        import export

        export.contact_sheet(TARGET, arguments.output, arguments.steps, arguments.cfg, arguments.shift, seed)


if __name__ == "__main__":
    main()
