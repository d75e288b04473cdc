# SPDX-License-Identifier: Apache-2.0
"""Nerite beside KServe's own Python server, on one scikit-learn model."""
