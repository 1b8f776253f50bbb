"""What others published, as tables to read beside ours: `tests/run --script tests/benchmarks/published.py`.

The figures are in published_figures.json, each with its source. None was measured here, and they are of other models.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "workflows" / "demo_model"), str(HERE.parent)]

from calibration_tables import RESULTS, Tables  # noqa: E402


def speed(latency: list[dict]) -> list[list[object]]:
    """How much of N/B arrives, by model and budget."""
    return [
        [one["model"], one["hardware"], f"{row['budget']} of {one['total_steps']}", f"{row['computed_speedup']:.2f}",
         f"{row['computed_speedup'] / row['ideal_N_over_B']:.2f}", one["source"]]
        for one in latency for row in one["rows"]
    ]


def quality(rows: list[dict]) -> list[list[object]]:
    """Against the full run of the same model."""
    return [
        [row["setting"], row["method"], *("" if row.get(key) is None else row[key] for key in
                                          ("budget", "psnr", "ssim", "lpips", "speedup")), row["source"]]
        for row in rows if row.get("psnr") is not None
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    figures = json.loads((HERE / "published_figures.json").read_text(encoding="utf-8"))
    tables = Tables()
    tables.plain(
        "Speed", "Latency of the full run over that of the accelerated one, and that as a share of N/B. More than 1 cannot "
        "come from skipped steps alone.", ["model", "hardware", "computed", "speed-up", "share of N/B", "source"],
        speed(figures["latency"]),
    )
    head = ["setting", "method", "computed", "PSNR dB", "SSIM", "LPIPS", "speed-up", "source"]
    tables.plain("Quality", "Means, as published.", head, quality(figures["quality"]))
    rows = [[key.replace("_", " "), value] for key, value in figures["offline_cost"].items()]
    tables.plain("The offline part", "Of LeMiCa, as published.", ["what", "how much"], rows)
    text = ["# What others published", "", "Written by `tests/run --script tests/benchmarks/published.py`. None of these "
            "figures was measured here, and each is of another model, so that rows of different tables say nothing about each "
            "other.", "", *tables.text]
    (RESULTS / "published.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
