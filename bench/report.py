"""A run as text: the table of ratios, who loses where, what of the machine's limits is reached, first calls, troubles."""
from __future__ import annotations

from bench import limits
from bench.harness import BASE, Document, Measurement, Ratio, best, by_row, engines_of, quartiles, ratios
from bench.limits import Limits
from bench.summary import Share, family_means, goals, shares


def duration(seconds: float | None) -> str:
    """Three digits and a unit."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def spread(measurement: Measurement) -> str:
    """Half the interquartile range in per cent of the median."""
    low, median, high = quartiles(measurement.seconds)
    return f"±{50 * (high - low) / median:.0f}%"


def time_cell(found: list[Measurement]) -> str:
    if not found:
        return ""
    chosen = best(found)
    if chosen is None:
        return "FAILED"
    return f"{duration(chosen.median)} {spread(chosen)} [{chosen.setting}]"


def ratio_cell(found: list[Measurement], value: Ratio | None) -> str:
    if value is None:
        return time_cell(found)
    return f"{value.median:.3g}{'!' if value.median < 1.0 else ''} [{value.setting}]"


def aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(widths[0]) if i == 0 else cell.rjust(width) for i, (cell, width) in
               enumerate(zip(line, widths, strict=True))] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def ratio_table(document: Document) -> str:
    """jitgrad's time, what that is of the machine's limit, and each peer's ratio; times where there is no ratio."""
    engines, rows, table, reached = engines_of(document), by_row(document), ratios(document), shares(document)
    peers = [name for name in engines if name != BASE]
    lines = [["row", *engines[:1], *["limit"] * bool(reached), *engines[1:]]]
    for row, found in rows.items():
        ratio_of = table.get(row, {}).get
        cells = [ratio_cell(found.get(name, []), ratio_of(name)) for name in engines]
        lines.append([row, *cells[:1], *[share_cell(reached.get(row))] * bool(reached), *cells[1:]])
    for family, means in family_means(table).items():
        label = "geometric mean" + ("" if family == "all" else f" {family}")
        lines.append([label, "", *[""] * bool(reached), *(mean_cell(means.get(name)) for name in peers)])
    return aligned(lines)


def share_cell(share: Share | None) -> str:
    return "" if share is None else f"{100 * share.share:.2g}% {share.limit}"


def mean_cell(mean: tuple[float, int] | None) -> str:
    return f"{mean[0]:.3g} of {mean[1]}" if mean else ""


def one_thread_table(document: Document) -> str:
    """The ratios where jitgrad and the peer both have one thread."""
    table = ratios(document, "1")
    peers = [name for name in engines_of(document) if any(name in found for found in table.values())]
    lines = [["one thread each", *peers]]
    for row, found in table.items():
        cells = [found[name].median if name in found else None for name in peers]
        lines.append([row, *("" if cell is None else f"{cell:.3g}{'!' if cell < 1.0 else ''}" for cell in cells)])
    means = family_means(table).get("all", {})
    lines.append(["geometric mean", *(mean_cell(means.get(name)) for name in peers)])
    return aligned(lines)


def goal_lines(document: Document) -> str:
    """Each goal beside what was achieved, with the rows that fall short."""
    lines = []
    for goal in goals(document):
        lines.append(f"{'met' if goal.met else 'MISSED':<7} {goal.wanted}: {goal.achieved}")
        lines += [f"          {row}" for row in goal.short]
    return "\n".join(lines)


def first_call_table(document: Document) -> str:
    """The seconds of each engine's first call, in its better setting."""
    engines, rows = engines_of(document), by_row(document)
    lines = [["first call", *engines]]
    for row, found in rows.items():
        chosen = [best(found.get(name, ())) for name in engines]
        lines.append([row, *(duration(m.first) if m else "" for m in chosen)])
    return aligned(lines)


def troubles(document: Document) -> list[str]:
    """One line for each disagreement and each failure."""
    found: dict[tuple[str, ...], list[str]] = {}
    for m in document.measurements:
        for kind, text in (("DISAGREES", m.disagreement), ("FAILED", m.error)):
            if text:
                found.setdefault((kind, m.row, m.engine, text), []).append(m.setting)
    return [f"{kind}: {row}, {engine} [{', '.join(settings)}]: {text}"
            for (kind, row, engine, text), settings in found.items()]


def report(document: Document) -> str:
    """All that is printed at the end of a run."""
    about = document.about
    head = [f"{about['cpu']}, {about['cores']} cores, Python {about['python']}",
            ", ".join(f"{name} {version}" for name, version in about["versions"].items())]
    if "limits" in about:
        head.append(limits.table(Limits.of(about["limits"])))
    legend = ("Cells: time of jitgrad (± half the interquartile range) and peer time / jitgrad time, median "
              "over rounds;\n[threads] is each engine's better setting; ! = jitgrad is slower. limit: the least time that "
              "the memory's bandwidth or\nthe arithmetic allows, in per cent of jitgrad's time.")
    parts = ["\n".join(head), ratio_table(document), legend, one_thread_table(document), first_call_table(document),
             "\n".join(troubles(document)), goal_lines(document)]
    return "\n\n".join(filter(None, parts))
