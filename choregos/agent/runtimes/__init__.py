"""How the code of an agent is found and loaded, one module per kind of runtime."""
