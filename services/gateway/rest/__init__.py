"""The REST side: sessions with DPoP, and a first FHIR read."""
