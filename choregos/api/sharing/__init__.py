"""How a server is shared among its clients: whose turn it is, and what one may send, have computed, leave and open."""
