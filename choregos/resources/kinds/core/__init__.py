"""Kinds of Kubernetes' core group that carry data: ServiceAccount, Secret, ConfigMap."""
