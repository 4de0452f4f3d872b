# SPDX-License-Identifier: BSD-2-Clause
"""One module per real, historical bug: the driver that had it, rebuilt, and the corrected one (:mod:`..examples`)."""
