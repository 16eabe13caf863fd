"""Questions that are asked by creating an object and answered in its status; nothing of them is stored.

Who am I, whose token is this (`authentication.k8s.io/v1`); may I, may somebody (`authorization.k8s.io/v1`).
"""
