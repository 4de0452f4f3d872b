# SPDX-License-Identifier: BSD-2-Clause
"""The first verdict of a run: is the hardware right? The reference model's predictions against what the hardware holds."""

from typing import Any

from .reference import ReferenceModel

__all__ = ["differences"]

_MAX_MISMATCHES = 5


def differences(tb: Any, memory: bytes, device: bytes) -> list[str]:
    """The first few differences at each maintenance completion and at the end of a finished run; empty if the hardware is right.

    ``memory`` and ``device`` are the images that the run began with.
    """
    model = ReferenceModel(tb.config, memory, device)
    mismatches: list[Any] = []
    position = 0
    for count, snapshot in tb.maintenance_snapshots:
        model.apply(tb.events[position:count])
        position = count
        mismatches += model.compare(snapshot)
    model.apply(tb.events[position:])
    mismatches += model.compare(tb.snapshot)
    # What the events broke comes first: a wrong byte at the end is its consequence.
    texts = list(dict.fromkeys(str(mismatch) for mismatch in [*model.mismatches, *mismatches]))
    if len(texts) > _MAX_MISMATCHES:
        return [*texts[:_MAX_MISMATCHES], f"and {len(texts) - _MAX_MISMATCHES} more"]
    return texts
