"""One real network for all end-to-end tests, gone afterwards."""

from tests.support.mesh import People, network, observation, patient, people

__all__ = ["People", "network", "observation", "patient", "people"]
