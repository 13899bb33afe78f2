"""The identity service: enrolment by the member's Fabric CA, registration and review, sessions."""
