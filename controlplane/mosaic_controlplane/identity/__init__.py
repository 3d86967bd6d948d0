"""The certificate authority, enrolment and who a caller is."""
