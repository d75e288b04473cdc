"""The file of API keys: what is read, what is told, what is appended."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from nerite.cli.app import main
from nerite.errors import ConfigError
from nerite.server.access_options import AccessOptions
from nerite.server.key_file import KeyLine, read_keys
from nerite.testing import serve

HEX = "ab" * 32
IDENTITY = """backend: "identity"
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


def test_a_line_is_a_name_a_digest_scopes_and_models(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n  ci\tsha256:{HEX.upper()}  infer,metrics a-*,b?  \n")
    assert read_keys(file) == (KeyLine("ci", HEX, ("infer", "metrics"), ("a-*", "b?")),)


@pytest.mark.parametrize(
    ("line", "expect"),
    [
        ("nrt_secret", "the line has 1 fields; NAME sha256:HEX SCOPE[,SCOPE] MODEL[,MODEL] is"),
        (f"ci sha256:{HEX} infer", "the line has 3 fields"),
        (f"nrt_secret sha256:{HEX} infer *", "the name is not usable"),
        ("ci nrt_secret infer *", "the digest of key 'ci' is not 'sha256:' and 64 hexadecimal"),
        (f"ci sha256:{HEX[1:]} infer *", "the digest of key 'ci'"),
        (f"ci sha256:{HEX} infer,admin *", "scope 'admin' of key 'ci' is not known; infer, manage"),
        (f"ci sha256:{HEX} infer a,,b", "a model pattern of key 'ci' is empty"),
        (f"one sha256:{'cd' * 32} infer *", "there is a key 'one' already"),
        (f"two sha256:{HEX} infer *", "key 'two' is the same key as 'one'"),
    ],
)
def test_a_wrong_line_is_told_with_file_and_line_and_without_a_secret(
    line: str, expect: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"one sha256:{HEX} infer *\n\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        read_keys(file)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{file}:3: {expect}")
    assert "secret" not in str(problem)


def test_a_server_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one\ntwo\n")
    for name, lines in {"keys": [1, 2], "absent": [0]}.items():
        access = AccessOptions(api_keys=tmp_path / name)
        with pytest.raises(ConfigError) as caught, serve(access=access):
            pass
        assert [problem.line for problem in caught.value.problems] == lines


def test_a_new_key_is_printed_once_and_kept_as_its_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    make = ("keys", "new", "ci", "--scopes", "infer,metrics", "--models", "a-*,b")
    assert main([*make, "--file", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    assert len(key) == len("nrt_") + 43
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert file.read_text() == f"ci sha256:{digest} infer,metrics a-*,b\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert main([*make, "--file", str(file)]) == 1
    assert "there is a key 'ci' already" in capsys.readouterr().err
    file.write_text(file.read_text().rstrip("\n"))
    assert main(["keys", "new", "ops", "--scopes", "manage", "--file", str(file)]) == 0
    assert [each.name for each in read_keys(file)] == ["ci", "ops"]
    capsys.readouterr()
    assert main(["keys", "new", "loose"]) == 0
    out, err = capsys.readouterr()
    assert f"loose sha256:{hashlib.sha256(out.strip().encode()).hexdigest()} infer *\n" in err
    assert main(["keys", "new", "x", "--scopes", "root"]) == 1
    assert "scope 'root' of key 'x' is not known" in capsys.readouterr().err


def test_the_commands_show_their_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models/m/1").mkdir(parents=True)
    (tmp_path / "models/m/config.pbtxt").write_text(IDENTITY)
    file = tmp_path / "keys"
    main(["keys", "new", "ci", "--file", str(file)])
    key = capsys.readouterr().out.strip()
    with serve(tmp_path / "models", access=AccessOptions(api_keys=file)) as server:
        at = ("--url", server.http_url)
        assert main(["models", *at]) == 1
        assert "an API key is needed" in capsys.readouterr().err
        assert main(["models", *at, "--api-key", key]) == 0
        assert main(["infer", "m", "X=[1]", *at, "--api-key", key[:-1]]) == 1
        assert "the API key is not known" in capsys.readouterr().err
        monkeypatch.setenv("NERITE_API_KEY", key)
        assert main(["infer", "m", "X=[1]", *at]) == 0
        assert main(["models", *at]) == 0
        assert key not in capsys.readouterr().out
