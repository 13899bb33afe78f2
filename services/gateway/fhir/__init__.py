"""FHIR resources in and out: read, checked, made and written by the gateway's own device."""
