# SPDX-License-Identifier: Apache-2.0
"""What a response of a decoupled model costs."""
