# SPDX-License-Identifier: Apache-2.0
"""What it saves that services share a process."""
