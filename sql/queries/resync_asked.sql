-- Ask whoever leads to recompute everyone.
INSERT INTO creditsd.resyncs (cause)
VALUES (%(cause)s)
