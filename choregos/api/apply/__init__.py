"""Who owns which field, and how a part of an object is written into the whole: server-side apply, strategic merge.

The rules are those of Kubernetes (sigs.k8s.io/structured-merge-diff and the field managers above it). Pure.
"""
