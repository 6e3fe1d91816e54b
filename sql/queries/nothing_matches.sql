-- Whether source.where leaves out all there is.
SELECT creditsd.nothing_matches()
