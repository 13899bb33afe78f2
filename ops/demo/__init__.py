"""The paper's story, told on a running network with real FHIR data."""
