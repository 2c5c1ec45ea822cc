"""A hub out of reach is found out once, and soon."""

import socket
from typing import Any

import pytest
from huggingface_hub import constants

from kdlight.errors import InputError
from kdlight.storage import hub
from kdlight.storage.pretrained import pretrained


class Asked:
    """What a library does: it is told where to look."""

    offline: bool

    @classmethod
    def from_pretrained(cls, path: str) -> Any:
        cls.offline = constants.HF_HUB_OFFLINE
        raise OSError(f"cannot find {path}")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    hub.reachable.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in hub.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("there", [True, False])
def test_the_cache_alone_is_asked_where_the_hub_is_out_of_reach(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Line:
        def close(self) -> None: ...

    def connect(place: tuple[str, int], timeout: float) -> Line:
        assert place[1] == 443
        assert timeout <= 5
        if not there:
            raise OSError("no route")
        return Line()

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(InputError, match="none: expected a model"):
        pretrained(Asked, "none", "a model")
    assert Asked.offline is not there
    assert constants.HF_HUB_OFFLINE is False


def test_behind_a_proxy_the_hub_is_taken_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setattr(socket, "create_connection", None)
    assert hub.reachable(constants.ENDPOINT)
