# SPDX-License-Identifier: Apache-2.0
"""What the command line names, and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from benches.load import cases, options, report, repository, servers
from benches.load.cases import ALL_CASES, Case, Protocol
from benches.load.measure import Measurements, Row, merged
from benches.load.profile import tidied
from benches.load.sample import Load, Sample

GRPC_64 = Case(Protocol.GRPC, 64)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["grpc"], ["grpc@8", "grpc@64"]),
        (["grpc@64", "grpc"], ["grpc@8", "grpc@64"]),
        (["@8"], ["http-binary@8", "http-json@8", "grpc@8"]),
        (["http-json@64"], ["http-json@64"]),
    ],
)
def test_cases_are_chosen_by_protocol_concurrency_or_both(
    words: list[str], names: list[str]
) -> None:
    assert [case.name for case in cases.select(words)] == names


@pytest.mark.parametrize("word", ["http", "grpc@9", "@", "x@8"])
def test_an_unknown_case_is_refused_with_the_known_ones(word: str) -> None:
    if word == "@":
        assert cases.select([word]) == ALL_CASES
        return
    with pytest.raises(ValueError, match="http-binary@8, http-binary@64"):
        cases.select([word])


def test_servers_are_chosen_by_name_or_family_in_a_fixed_order() -> None:
    chosen = servers.select(["nginx", "triton", "nerite-python"])
    assert [server.name for server in chosen] == ["nerite-python", "triton-python", "nginx"]


@pytest.mark.parametrize("words", [["apache"], ["nginx", "Triton"], []])
def test_an_unknown_server_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="no server is called"):
        servers.select(words)


def test_names_of_servers_are_unique() -> None:
    names = [server.name for server in servers.ALL_SERVERS]
    assert len(set(names)) == len(names)


def test_a_bad_option_ends_with_status_2_and_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        options.parse(["--only", "http3"])
    assert ended.value.code == 2
    assert "no case is called 'http3'" in capsys.readouterr().err


def test_a_repository_holds_just_the_models_it_was_made_for(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    repository.write([repository.NATIVE, repository.PYTHON], folder)
    repository.write([repository.PYTHON], folder)
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == ["identity_python/1/model.py", "identity_python/config.pbtxt"]


def test_a_model_waits_for_company_only_when_told_to() -> None:
    assert "dynamic_batching { }" in repository.config_text(repository.NATIVE)
    patient = repository.Identity("m", "identity", queue_delay_us=5000)
    assert "max_queue_delay_microseconds: 5000" in repository.config_text(patient)


def row(name: str, *cpu_seconds: float) -> Row:
    """A row with a run of a million requests for each CPU time."""
    (server,) = servers.select([name])
    loads = Load(1_000_000, 10.0, 0, 0, 500.0, 2000.0)
    return Row(server, GRPC_64, tuple(Sample(loads, seconds) for seconds in cpu_seconds))


def test_the_table_shows_the_cheapest_run_as_ratios() -> None:
    rows = [row("nerite-identity", 9.0, 6.0), row("triton-python", 60.0), row("nginx", 12.0)]
    lines = report.table(Measurements(rows), (GRPC_64,)).splitlines()
    assert lines[2].split()[-8:] == ["6.0", "100000", "0.50", "2.00", "0.10", "0.50", "9", "met"]
    assert lines[3].split()[-6:] == ["60.0", "100000", "0.50", "2.00", "1.00", "5.00"]


def test_a_missed_goal_is_called_missed() -> None:
    table = report.table(Measurements([row("nerite-identity", 9.1)]), (GRPC_64,))
    assert table.endswith("9 missed")


def test_rounds_are_merged_into_one_row_with_all_runs() -> None:
    first, other, second = row("nginx", 12.0, 11.0), row("triton-python", 60.0), row("nginx", 10.0)
    rows = merged([first, other, second])
    assert [each.server.name for each in rows] == ["nginx", "triton-python"]
    assert [sample.cpu_seconds for sample in rows[0].samples] == [12.0, 11.0, 10.0]
    assert rows[0].best.cpu_us == 10.0


def test_a_fault_in_one_round_stands_whatever_the_others_gave() -> None:
    bad = Row(row("nginx").server, GRPC_64, fault="wrong: 3 of 9 requests failed")
    for rows in ([bad, row("nginx", 10.0)], [row("nginx", 10.0), bad]):
        assert merged(rows)[0].fault == "wrong: 3 of 9 requests failed"


def test_a_peer_that_is_missing_is_printed_as_missing() -> None:
    (server,) = servers.select(["nginx"])
    rows = [row("triton-python", 60.0), Row(server, GRPC_64, fault="missing: nginx, try apt")]
    lines = report.table(Measurements(rows), (GRPC_64,)).splitlines()
    assert lines[2].split()[-1] == "-"
    assert lines[3].endswith("missing: nginx, try apt")


def test_a_profile_is_tidied_to_share_library_and_function() -> None:
    said = """\
# Samples: 1K of event 'cpu-clock'
    13.54%  [kernel.kallsyms]        [k] finish_task_switch.isra.0              -      -

     1.03%  libtriton_python.so      [.] boost::rebalance<void, long>           -      -
"""
    assert tidied(said) == (
        " 13.54%  [kernel.kallsyms] [k] finish_task_switch.isra.0\n"
        "  1.03%  libtriton_python.so [.] boost::rebalance<void, long>"
    )
