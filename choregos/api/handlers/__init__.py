"""What each verb does, one module per family: reading, watching, writing, subresources, agents, calls,
documents, health."""
