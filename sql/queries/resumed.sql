-- Where to go on.
SELECT creditsd.resume(%(policy)s)
