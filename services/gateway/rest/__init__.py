"""The REST side: sessions with DPoP, and FHIR reads and writes."""
