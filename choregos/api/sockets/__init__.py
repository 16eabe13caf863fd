"""What is served over WebSockets: commands beside an agent, and connections to its ports.

The handshake passes the gate as every request does. Invariants: nothing is begun unless the agent's namespace allows
it, whatever a role allows; a client that goes away ends what it has begun, and so does the end of this server.
"""
