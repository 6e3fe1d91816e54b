-- Where to go on.
SELECT creditsd.resume(%(policy)s, %(floor_version)s)
