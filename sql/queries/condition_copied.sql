-- A table of the same columns and no rows, on which to read source.where; it goes with the transaction.
CREATE TABLE {copy} (LIKE {table})
