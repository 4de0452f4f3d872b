# SPDX-License-Identifier: BSD-2-Clause
"""The scenario catalogue: data (:mod:`.model`, the tables), expectations (:mod:`.expect`), driver code (:mod:`.stories`)."""

from .catalogue import MATRIX, NOT_APPLICABLE, UnknownScenario, catalogue, not_applicable, select
from .expect import Expectation, Setting
from .model import Corruption, Scenario

__all__ = [
    "MATRIX",
    "NOT_APPLICABLE",
    "Corruption",
    "Expectation",
    "Scenario",
    "Setting",
    "UnknownScenario",
    "catalogue",
    "not_applicable",
    "select",
]
