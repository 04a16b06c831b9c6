"""The options of a sandbox."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from wiro_async.sandbox import SandboxConfig
from wiro_async.sandbox._config import SandboxOptions, is_loopback


def test_keys_are_not_shown() -> None:
    """The repr of a configuration holds no credential."""
    config = SandboxConfig(api_key="canary-1", api_secret="canary-2", projects={"canary-3": "canary-4"})
    assert "canary" not in repr(config)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_other_addresses_are_listened_on_only_under_a_name(host: str) -> None:
    """A sandbox is never reachable from other machines by mistake, and says what to use instead."""
    with pytest.raises(ValueError, match=r"is not a loopback address.*Use 127\.0\.0\.1.*--allow-host"):
        SandboxConfig(host=host)
    assert SandboxConfig(host=host, allow_host=["sandbox"]).host == host


@pytest.mark.parametrize("names", ["sandbox", [""]])
def test_names_are_a_list(names: Any) -> None:
    """One text would be read as its letters."""
    for option in ("allow_host", "allow_fetch"):
        with pytest.raises(ValueError, match=f"{option}=.* must be a list of names"):
            SandboxConfig(**{option: names})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_addresses_are_known(host: str) -> None:
    """By number or by name."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0},
        {"queue_mean": -1},
        {"run_sigma": -1},
        {"order": "both"},
        {"receive_timeout": 0},
        {"socket_format": "newest"},
        {"tasks_per_socket": 0},
        {"callback_shape": "round"},
        {"charge_delay": -1},
        {"bare_seconds": -1},
        {"nofiles_seconds": -1},
        {"outputs_name": "files"},
        {"record_size": "large"},
        {"cdn_encoding": "zip"},
        {"after_error": "sleep"},
        {"error_seconds": -1},
    ],
)
def test_senseless_options_are_refused(wrong: SandboxOptions) -> None:
    """At once, not when the first task runs."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SandboxConfig(**wrong)


def test_the_keyword_arguments_are_the_fields() -> None:
    """``Sandbox(...)`` takes every option, and no other."""
    assert set(SandboxOptions.__annotations__) == {field.name for field in attrs.fields(SandboxConfig)}
