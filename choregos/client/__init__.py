"""The client of the API: objects, watches and calls, for programs and for the command line. Knows no server code."""

from choregos.client.applying import Applied
from choregos.client.client import CallAnswer, Client
from choregos.client.sync import SyncClient
from choregos.client.watching import Listing, Object, WatchEvent

__all__ = ["Applied", "CallAnswer", "Client", "Listing", "Object", "SyncClient", "WatchEvent"]
