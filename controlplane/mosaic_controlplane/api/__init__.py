"""The services: translate, call, translate. Who may call what is in policy.yaml."""
