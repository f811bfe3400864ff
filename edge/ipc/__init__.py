"""How the processes of a run talk: records, transport, and the vocabulary of modes and faults."""
