"""Kinds of Kubernetes' core group that are stored as they are there: ConfigMap, Secret, ServiceAccount, ResourceQuota;
and Service, of which there are none."""
