"""Quality against computed steps, one line a contestant."""

from __future__ import annotations

from pathlib import Path

OWN = "this pack: normal"
MARKERS = "osD^v<>PX*hpd"


def draw(rows: list[dict], file: Path, title: str) -> None:
    """Write a PNG with PSNR and LPIPS over the budget."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["what"] for row in rows if row["what"] != "full run"))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for axis, measure, label in zip(axes, ("psnr", "lpips"), ("PSNR of decoded frames, dB", "LPIPS")):
        for place, name in enumerate(names):
            found = sorted((row["calls"] / 2, row[measure]) for row in rows if row["what"] == name)
            own = name == OWN
            axis.plot(
                *zip(*found), label=name, marker=MARKERS[place % len(MARKERS)], markersize=7 if own else 4,
                linewidth=2.5 if own else 1, color="black" if own else None, zorder=3 if own else 2,
            )
        axis.set_xlabel("computed steps (model calls)")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[1].set_yscale("symlog", linthresh=1e-4)
    figure.suptitle(title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
    pyplot.close(figure)
