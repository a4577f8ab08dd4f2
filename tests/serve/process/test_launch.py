from __future__ import annotations

import pytest

from serve.process.token import exposure


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7"])
def test_who_serves_strangers_without_a_token_is_warned(address: str) -> None:
    warning = exposure(address, guarded=False)
    assert warning.startswith(f"warning: {address} can be reached from other machines")
    assert "Set STILLROOM_TOKEN" in warning
    assert "--host 127.0.0.1" in warning
    assert exposure(address, guarded=True) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_service_of_this_machine_alone_is_none_of_that(address: str) -> None:
    assert exposure(address, guarded=False) == ""
