# SPDX-License-Identifier: Apache-2.0
"""The models that are served while the load runs; nothing here takes part in measuring."""
