"""The register: the only code that speaks to Postgres. One module and one .sql of named queries a table."""
