# SPDX-License-Identifier: Apache-2.0
"""Rules about batch sizes and the dynamic batcher."""

from __future__ import annotations

from collections.abc import Iterable

from nerite.config.rules import Context, Problems, problem
from nerite.config.schema import Message


def max_batch_size_is_positive(config: Message, context: Context) -> Problems:
    """There is no negative batch."""
    if config.max_batch_size < 0:
        text = f"'max_batch_size' must be non-negative value for {config.name}"
        fix = "0 for a model without a batch dimension, else the largest batch"
        yield problem(text, "max_batch_size", config.max_batch_size, fix)


def sizes_are_possible(
    sizes: Iterable[int], config: Message, key: str, words: tuple[str, str]
) -> Problems:
    """Preferred batch sizes lie in 1..max_batch_size; `words` are how Triton calls them."""
    what, limit = words
    for index, size in enumerate(sizes):
        place = f"{key}[{index}]"
        if size <= 0:
            text = f"{what} must be positive for {config.name}"
            yield problem(text, place, size, f"1 to {max(config.max_batch_size, 1)}")
        elif size > config.max_batch_size:
            text = f"{what} must be <= {limit} for {config.name}"
            fix = f"at most {config.max_batch_size}, or raise 'max_batch_size'"
            if config.max_batch_size == 0:
                fix = "set 'max_batch_size', or remove the preferred sizes"
            yield problem(text, place, size, fix)


def preferred_sizes_are_possible(config: Message, context: Context) -> Problems:
    """A preferred size is a batch the model can take."""
    if config.HasField("dynamic_batching"):
        sizes = config.dynamic_batching.preferred_batch_size
        words = ("dynamic batching preferred size", "max batch size")
        key = "dynamic_batching.preferred_batch_size"
        yield from sizes_are_possible(sizes, config, key, words)


def priorities_are_in_range(config: Message, context: Context) -> Problems:
    """Levels run from 1 to priority_levels."""
    batching = config.dynamic_batching
    levels = batching.priority_levels
    if levels == 0:
        return
    if not 1 <= batching.default_priority_level <= levels:
        text = f"default priority level must be in range [1, {levels}] for {config.name}"
        key = "dynamic_batching.default_priority_level"
        value = batching.default_priority_level
        yield problem(text, key, value, f"set default_priority_level to 1 to {levels}")
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            text = (
                f"priority queue policy must have priority level in range [1, {levels}] for "
                f"{config.name}"
            )
            key = f"dynamic_batching.priority_queue_policy[{level}]"
            yield problem(text, key, level, f"a level from 1 to {levels}")


def order_is_kept_by_one_queue(config: Message, context: Context) -> Problems:
    """Replies can only stay in order if nothing overtakes."""
    batching = config.dynamic_batching
    if not batching.preserve_ordering:
        return
    if batching.priority_levels > 1:
        text = (
            f"Only one priority level is allowed when 'preserve_ordering' is true for {config.name}"
        )
        fix = "remove 'preserve_ordering' or 'priority_levels'"
        yield problem(text, "dynamic_batching.priority_levels", batching.priority_levels, fix)
    policies = [("dynamic_batching.default_queue_policy", batching.default_queue_policy)]
    for level in sorted(batching.priority_queue_policy):
        key = f"dynamic_batching.priority_queue_policy[{level}]"
        policies.append((key, batching.priority_queue_policy[level]))
    for key, policy in policies:
        # Without a timeout DELAY never happens, and Triton lets it pass.
        if policy.timeout_action and policy.default_timeout_microseconds:
            text = (
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is "
                f"true for {config.name}"
            )
            yield problem(text, f"{key}.timeout_action", "DELAY", "REJECT")
