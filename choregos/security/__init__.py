"""Who is who: the local certificate authority, the users of the bus, kubeconfig files. Decides nothing for the API."""
