"""What the options `show`, `dump` and `time` ask to see of each compilation, stage by stage."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config import config
from ..ir.graph import Graph
from ..ir.text import to_text
from ..lowering.describe import fusion_text, kernels_text, plan_text
from ..lowering.plan import Plan
from ..passes.pipeline import pass_names
from ..stages import check_stage

_numbers = itertools.count()  # of compilations in this process: file names of dumps


class Observer:
    """Hears each stage's result: `observer(stage, value, seconds)`; `value` is a Graph, a Plan, or text.

    `see(stage, text)` gets the stages that `wants(stage)`; `timed(stage, seconds)` all that took time.
    """

    def __init__(
        self,
        wants: Callable[[str], bool],
        see: Callable[[str, str], None],
        timed: Callable[[str, float], None] | None = None,
    ):
        self.wants, self.see, self.timed = wants, see, timed

    def __call__(self, stage: str, value: Graph | Plan | str, seconds: float = 0.0) -> None:
        if self.timed is not None and seconds:
            self.timed(stage, seconds)
        for name, text in stage_texts(stage, value, self.wants):
            self.see(name, text)


def stage_texts(stage: str, value: Graph | Plan | str, wants: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """(stage, text) of what is wanted; a plan has three stages' texts."""
    if isinstance(value, Plan):
        if wants("fused"):
            yield "fused", fusion_text(value.fusion)
        if wants("kernels"):
            yield "kernels", kernels_text(value)
        if wants("plan"):
            yield "plan", plan_text(value)
    elif wants(stage):
        yield stage, to_text(value) if isinstance(value, Graph) else value


def configured_observer() -> Observer | None:
    """The observer that the options ask for, made anew for each compilation; None when they ask for nothing."""
    options = config.options()
    if not (options.show or options.dump or options.time):
        return None
    shown = {check_stage(stage, pass_names()) for stage in options.show}
    folder, number, order = options.dump, next(_numbers), itertools.count()

    def wants(stage: str) -> bool:
        return folder is not None or stage in shown or "all" in shown

    def see(stage: str, text: str) -> None:
        if stage in shown or "all" in shown:
            print(f"--- {stage}\n{text}", file=sys.stderr)
        if folder is not None:
            _write(folder, f"{os.getpid()}-{number}-{next(order):02d}-{stage.replace(':', '-')}.txt", text)

    def timed(stage: str, seconds: float) -> None:
        print(f"jitgrad: {stage:<24}{1e3 * seconds:10.3f} ms", file=sys.stderr)

    return Observer(wants, see, timed if options.time else None)


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
