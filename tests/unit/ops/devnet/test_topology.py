"""Names and ports of the programs."""

import pytest

from ops.devnet import topology
from ops.devnet.topology import BLOCK, MEMBERS, ORGANISATIONS, POSSIBLE_MEMBERS, Ports


@pytest.mark.parametrize("members", [MEMBERS, POSSIBLE_MEMBERS])
def test_every_listener_has_a_port_of_its_own_inside_the_block(members: tuple[str, ...]) -> None:
    ports = Ports(20_000, members).all()
    # Two of the members order, and so does the ordering organisation.
    assert len(ports) == 23 * len(members) + 2 * 3 + 5
    assert min(ports) == 20_000
    assert max(ports) < 20_000 + BLOCK


@pytest.mark.parametrize("members", [MEMBERS, POSSIBLE_MEMBERS])
def test_every_port_belongs_to_a_program_under_supervision(members: tuple[str, ...]) -> None:
    wanted = {*topology.all_programs(members), *topology.collectors(members)}
    assert set(Ports(20_000, members).all().values()) == wanted


def test_a_third_member_moves_nobody_s_port() -> None:
    two, three = Ports(20_000).all(), Ports(20_000, POSSIBLE_MEMBERS).all()
    assert two.items() <= three.items()


def test_three_organisations_order_so_that_one_may_be_away() -> None:
    assert (
        topology.orderers(MEMBERS) == topology.orderers(POSSIBLE_MEMBERS) == ("ordering", "mercy", "lakeside")
    )


def test_program_names_lead_with_their_organisation() -> None:
    for name in topology.all_programs():
        organisation, program = topology.split_program(name)
        assert organisation in ORGANISATIONS
        assert topology.program_name(organisation, program) == name


def test_an_unknown_program_is_told_with_those_that_there_are() -> None:
    with pytest.raises(KeyError, match="mercy-peer"):
        topology.split_program("mercy-printer")


def test_msp_ids_are_as_the_conventions_say() -> None:
    assert [topology.msp_id(name) for name in ORGANISATIONS] == ["MercyMSP", "LakesideMSP", "OrderingMSP"]
