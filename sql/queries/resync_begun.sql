-- Everyone again, from the beginning.
SELECT creditsd.begin_resync(%(cause)s, %(republish)s)
