-- As a condition on a row, which refuses subqueries and the like. NOT VALID, so that nothing it calls runs now, as whoever installs.
ALTER TABLE {copy} ADD CONSTRAINT condition CHECK (({condition})) NOT VALID
