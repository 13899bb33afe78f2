"""Closed lists: data categories and purposes of use.

A category is all that the channel shows of what a record is about; it is coarse on purpose.
"""

from __future__ import annotations

# HL7 v3 PurposeOfUse (https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html), those in use here.
PURPOSES = frozenset({"TREAT", "ETREAT", "HPAYMT", "HOPERAT", "HRESCH", "PATRQT", "PUBHLTH"})

_RESOURCES: dict[str, tuple[str, ...]] = {
    "demographics": (
        "Patient",
        "RelatedPerson",
        "Person",
        "Practitioner",
        "PractitionerRole",
        "Organization",
        "Location",
    ),
    "encounters": ("Encounter", "EpisodeOfCare", "Appointment", "AppointmentResponse", "Schedule", "Slot"),
    "conditions": (
        "Condition",
        "ClinicalImpression",
        "DetectedIssue",
        "RiskAssessment",
        "FamilyMemberHistory",
    ),
    "allergies": ("AllergyIntolerance", "AdverseEvent"),
    "observations": ("Observation", "QuestionnaireResponse", "Questionnaire"),
    "medications": (
        "Medication",
        "MedicationRequest",
        "MedicationStatement",
        "MedicationAdministration",
        "MedicationDispense",
    ),
    "procedures": ("Procedure", "ServiceRequest", "Device", "DeviceRequest", "DeviceUseStatement"),
    "immunizations": ("Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation"),
    "diagnostics": ("DiagnosticReport", "Specimen", "MolecularSequence"),
    "documents": (
        "DocumentReference",
        "Composition",
        "Binary",
        "Media",
        "Communication",
        "CommunicationRequest",
    ),
    "imaging": ("ImagingStudy",),
    "care-plans": ("CarePlan", "CareTeam", "Goal", "NutritionOrder", "Task", "RequestGroup"),
    "coverage": ("Coverage", "Claim", "ClaimResponse", "ExplanationOfBenefit", "Account", "Invoice"),
    "provenance": ("Provenance", "AuditEvent", "Consent"),
}
_BY_RESOURCE = {resource: category for category, resources in _RESOURCES.items() for resource in resources}

OTHER = "other"
CATEGORIES = frozenset({*_RESOURCES, OTHER})


def of_resource(resource_type: str) -> str:
    """The category of a FHIR R4 resource type; `other` for what is not listed."""
    return _BY_RESOURCE.get(resource_type, OTHER)


def resources_of(category: str) -> tuple[str, ...]:
    """The FHIR R4 resource types of a category, as listed."""
    return _RESOURCES.get(category, ())
