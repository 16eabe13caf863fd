"""The processes that `choregos up` starts, each put together from its parts: API server, controllers, node."""
