"""Names and ports of the programs."""

import pytest

from cbmdhi.devnet import topology
from cbmdhi.devnet.topology import BLOCK, MEMBERS, ORGANISATIONS, Ports


def test_every_listener_has_a_port_of_its_own_inside_the_block() -> None:
    ports = Ports(20_000).all()
    assert len(ports) == 23 * len(MEMBERS) + 5
    assert min(ports) == 20_000
    assert max(ports) == 20_000 + BLOCK - 1


def test_every_port_belongs_to_a_program_under_supervision() -> None:
    assert set(Ports(20_000).all().values()) == {*topology.all_programs(), *topology.collectors()}


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
