"""A request for a certificate has an end, and a reason when it is refused."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from services.identity.domain import csr
from services.runtime.refusal import Refused
from tests.support.fakes.fabric_ca import Wallet


def test_a_request_may_be_as_long_as_the_limit() -> None:
    wallet = Wallet()
    longest = wallet.csr() + "\n" * (csr.MAX_PEM_BYTES - len(wallet.csr()))
    longest = longest[: csr.MAX_PEM_BYTES].ljust(csr.MAX_PEM_BYTES, "\n")
    assert csr.check(longest).address == wallet.address
    for other in (longest + "\n", "", "none"):
        with pytest.raises(Refused) as caught:
            csr.check(other)
        assert (caught.value.code, bool(caught.value.reason)) == (code_pb2.CODE_INVALID, True)
    for other in (longest + "\n", ""):
        with pytest.raises(Refused, match="at most"):
            csr.check(other)
