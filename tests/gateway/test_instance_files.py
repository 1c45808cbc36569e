import os
import stat
from pathlib import Path

import pytest

from gateway.instance_files import Directory, Endpoints, read_endpoints, write_private
from sinks.errors import Misconfigured


def endpoints(pid: int) -> Endpoints:
    return Endpoints(
        "127.0.0.1:1", "http://127.0.0.1:2/oscp/fp/2.0", "http://127.0.0.1:3", "http://127.0.0.1:4", "token", pid, {"speed": 1}
    )


def test_a_second_instance_is_kept_out_of_the_directory(tmp_path: Path) -> None:
    first, second = Directory(tmp_path / "d"), Directory(tmp_path / "d")
    first.lock()
    with pytest.raises(Misconfigured, match="in use by another running instance"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_the_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "d")
    assert directory.secret() == directory.secret()
    assert stat.S_IMODE((directory / "secret").stat().st_mode) == 0o600


def test_endpoints_are_found_while_the_instance_lives(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    assert read_endpoints(tmp_path) is None
    directory.write_endpoints(endpoints(os.getpid()))
    assert read_endpoints(tmp_path) == endpoints(os.getpid())
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    directory.write_endpoints(endpoints(gone))
    assert read_endpoints(tmp_path) is None


def test_a_torn_endpoints_file_is_no_instance(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text('{"kafka_boot')
    assert read_endpoints(tmp_path) is None


def test_a_private_file_is_whole(tmp_path: Path) -> None:
    write_private(tmp_path / "token", "value")
    assert (tmp_path / "token").read_text() == "value\n"
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_an_unusable_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="--data"):
        Directory(tmp_path / "file" / "below")
