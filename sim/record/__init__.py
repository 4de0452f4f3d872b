# SPDX-License-Identifier: BSD-2-Clause
"""The record of one run: probe events, driver calls, source lines and the platform.

Everything that judges a run (reference model, flush checker, wave markers) reads it from here, so that each verdict can
be reproduced from the recorded files alone.
"""

from .event import (
    Event,
    EventReader,
    RecordError,
    pack_events,
    read_events,
    read_events_text,
    record_bytes,
    unpack_events,
    write_events,
    write_events_text,
)
from .run import Run

__all__ = [
    "Event",
    "EventReader",
    "RecordError",
    "Run",
    "pack_events",
    "read_events",
    "read_events_text",
    "record_bytes",
    "unpack_events",
    "write_events",
    "write_events_text",
]
