# SPDX-License-Identifier: Apache-2.0
"""All rules of a configuration, in Triton's order.

The order matters: the first problem is what a failed load says. The rules of `FIRST` are applied
to what was written and completed by the server, those of `LATER` once the backend has added what
it knows. The rules themselves are in `rules`, one function each.
"""

from __future__ import annotations

from nerite.config.rules import (
    Context,
    Rule,
    batching,
    ensembles,
    identity,
    instances,
    samples,
    sequences,
    tensors,
)
from nerite.config.schema import Message
from nerite.errors import ConfigProblem

FIRST: tuple[Rule, ...] = (
    identity.backend_is_known,
    identity.platform_fits_backend,
    batching.max_batch_size_is_positive,
    batching.preferred_sizes_are_possible,
    batching.priorities_are_in_range,
    batching.order_is_kept_by_one_queue,
    identity.cache_without_sequences,
    sequences.control_tensors_have_names,
    sequences.control_kinds_are_given_once,
    sequences.flags_have_two_values,
    sequences.correlation_id_is_a_tensor,
    sequences.oldest_sizes_are_possible,
    sequences.utilization_is_a_share,
    ensembles.ensembles_are_only_graphs,
    ensembles.steps_are_complete,
    ensembles.tensors_are_connected,
    identity.cache_without_decoupling,
    identity.metrics_are_complete,
    identity.name_is_folder,
    identity.agents_are_known,
    identity.model_file_stays_inside,
)
LATER: tuple[Rule, ...] = (
    tensors.batch_inputs_have_types,
    tensors.tensors_are_complete,
    tensors.names_are_unique,
    tensors.formats_have_three_dims,
    tensors.special_tensors_are_tensorrts,
    tensors.batch_inputs_have_one_source,
    tensors.batch_outputs_have_one_source,
    identity.labels_are_there,
    instances.groups_fit_the_machine,
    instances.profiles_are_tensorrts,
    instances.resources_are_available,
    samples.warmups_can_run,
    sequences.initial_states_fit,
)


def check(message: Message, rules: tuple[Rule, ...], context: Context) -> list[ConfigProblem]:
    """What the message breaks of these rules, in their order."""
    return [problem for rule in rules for problem in rule(message, context)]
