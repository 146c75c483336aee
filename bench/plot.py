"""Draw a run that `run.py --json` wrote: `python bench/plot.py run.json run.png`."""
from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":      # the root instead of the script's folder, so that `bench` is found
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from bench.harness import BASE, Document, engines_of, geometric_mean, ratios

COLOURS = {"autograd": "tab:purple", "torch": "tab:red", "torch.compile": "tab:orange", "jax": "tab:blue",
           "numba": "tab:green"}


def draw(document: Document) -> plt.Figure:
    """Every row's ratios, one dot a peer with a whisker from quartile to quartile, on a logarithmic axis."""
    table = {row: peers for row, peers in ratios(document).items() if peers}
    if not table:
        raise SystemExit(f"no row of this run has both {BASE} and a peer: nothing to compare")
    figure, axes = plt.subplots(figsize=(9.0, 1.6 + 0.24 * len(table)), layout="constrained")
    for name in [name for name in engines_of(document) if name != BASE]:
        draw_peer(axes, table, name)
    axes.set_xscale("log")
    axes.set_yticks(range(len(table)), table, fontsize=8)
    axes.set_ylim(len(table) - 0.5, -0.5)
    mark_losses(axes, table)
    separate_families(axes, list(table))
    axes.set_xlabel(f"time of the peer / time of {BASE}   (right of 1: {BASE} is faster)")
    axes.set_title(f"{document.about['cpu']}, {document.about['cores']} cores, better thread setting of each",
                   fontsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    return figure


def draw_peer(axes: plt.Axes, table: dict, name: str) -> None:
    found = [(y, peers[name]) for y, peers in enumerate(table.values()) if name in peers]
    if found:
        median = [value.median for _, value in found]
        whiskers = [[value.median - value.low for _, value in found],
                    [value.high - value.median for _, value in found]]
        label = f"{name} (mean {geometric_mean(median):.3g})"
        axes.errorbar(median, [y for y, _ in found], xerr=whiskers, fmt="o", markersize=4, linewidth=1,
                      color=COLOURS.get(name), label=label)


def mark_losses(axes: plt.Axes, table: dict) -> None:
    """The side where the peer is faster, and the names of the rows that have a dot there."""
    for label, peers in zip(axes.get_yticklabels(), table.values(), strict=True):
        if any(value.median < 1.0 for value in peers.values()):
            label.set_color("tab:red")
    left, right = axes.get_xlim()
    left = min(left, 0.5)
    axes.axvspan(left, 1.0, color="tab:red", alpha=0.08, linewidth=0)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlim(left, max(right, 2.0))


def separate_families(axes: plt.Axes, rows: list[str]) -> None:
    families = [row.split(".")[0] for row in rows]
    for y in range(1, len(rows)):
        if families[y] != families[y - 1]:
            axes.axhline(y - 0.5, color="grey", linewidth=0.5)


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise SystemExit("usage: python bench/plot.py run.json picture.png")
    draw(Document.load(arguments[0])).savefig(arguments[1], dpi=130)


if __name__ == "__main__":
    main(sys.argv[1:])
