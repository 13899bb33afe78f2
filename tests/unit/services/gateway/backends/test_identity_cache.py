"""Who is who, as of a moment ago: asked once for many, and not again for all of them at the same time."""

from collections.abc import Sequence

from cbmdhi.command.v1.state_pb2 import IdentityDocument
from services.gateway.backends.identity_cache import IdentityCache
from tests.support.fakes.gateway_people import NOW_ACTIVE
from tests.support.revoking import nobody

HOUR = 3_600.0
PEOPLE = [f"person {number}" for number in range(100)]


class Source:
    """Knows everybody, and notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def identities(self, addresses: Sequence[str]) -> list[IdentityDocument | None]:
        self.asked.append(list(addresses))
        return [IdentityDocument(address=address, status=NOW_ACTIVE) for address in addresses]


async def test_who_was_looked_up_together_is_looked_up_again_bit_by_bit_and_never_too_late() -> None:
    source, now = Source(), 0.0
    identities = IdentityCache(source, nobody, lambda: now)

    await identities.several(PEOPLE, HOUR)
    now = 0.74 * HOUR
    await identities.several(PEOPLE, HOUR)
    assert source.asked == [PEOPLE]

    now = 0.875 * HOUR
    await identities.several(PEOPLE, HOUR)
    assert 0 < len(source.asked[1]) < len(PEOPLE)

    now = HOUR + 1
    await identities.several(PEOPLE, HOUR)
    assert sorted(source.asked[1] + source.asked[2]) == sorted(PEOPLE)
