"""The gate in front of everything: who asks (`authenticators`, `impersonation`), may they (`grants`), and what is kept
of it (`auditing`). `gate.Gate` is all of it in one; `escalation` is what writers of roles and bindings pass besides.
"""
