# SPDX-License-Identifier: BSD-2-Clause
"""The reference model: predicts every byte and judges every probe event (see ``docs/reference-model.md``)."""

from .context import Mismatch
from .model import ReferenceModel
from .snapshot import NOT_SEEN, CacheLine, Remainder, Snapshot

__all__ = ["NOT_SEEN", "CacheLine", "Mismatch", "ReferenceModel", "Remainder", "Snapshot"]
