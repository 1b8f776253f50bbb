"""The engine that runs a cache schedule inside a ComfyUI sampling run."""
