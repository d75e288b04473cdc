# SPDX-License-Identifier: Apache-2.0
"""What loading and unloading while the server runs costs: requests lost (none), memory kept."""
