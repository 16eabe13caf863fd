"""From a name or a capability to an agent that answers: routes, the caller, and the resolver over the directory."""
