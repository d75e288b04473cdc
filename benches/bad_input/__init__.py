# SPDX-License-Identifier: Apache-2.0
"""Whether a server is as fast after bad input as before it."""
