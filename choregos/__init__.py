"""choregos: a control plane and runtime for fleets of AI agents."""
