# SPDX-License-Identifier: BSD-2-Clause
"""The scenario catalogue: data (:mod:`.model`, the tables), expectations (:mod:`.expect`), driver code (:mod:`.stories`), and the
examples of rules and cases, which are drivers of their own (:mod:`.examples`)."""

from .catalogue import MATRIX, NOT_APPLICABLE, AnyScenario, UnknownScenario, catalogue, everything, not_applicable, select
from .examples import DriverScenario, Example, Expect, examples
from .expect import Expectation, Setting
from .model import Corruption, Scenario

__all__ = [
    "MATRIX",
    "NOT_APPLICABLE",
    "AnyScenario",
    "Corruption",
    "DriverScenario",
    "Example",
    "Expect",
    "Expectation",
    "Scenario",
    "Setting",
    "UnknownScenario",
    "catalogue",
    "everything",
    "examples",
    "not_applicable",
    "select",
]
