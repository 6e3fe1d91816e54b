-- In square brackets as in round ones: so it closes no bracket that it has not opened, ends what it begins, and is one expression.
CREATE VIEW {in_square} AS SELECT FROM {copy} WHERE (ARRAY[{condition}]::boolean[])[1]
