-- Our functions as they are.
SELECT creditsd.functions_digest(true)
