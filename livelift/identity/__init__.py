"""Who may talk to whom: the job's certificate authority, pairing, certificates."""
