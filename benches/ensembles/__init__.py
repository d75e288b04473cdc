# SPDX-License-Identifier: Apache-2.0
"""What a request costs more when it comes through the gateway."""
