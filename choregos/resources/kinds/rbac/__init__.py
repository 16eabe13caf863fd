"""Kinds that say who may do what: `rbac.authorization.k8s.io/v1`. What they mean is `choregos.security.rbac`."""
