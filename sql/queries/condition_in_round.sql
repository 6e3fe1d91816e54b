-- In round brackets. Of a view, whatever the condition makes of this is read, and nothing of it runs. It comes last, and nothing after it
-- could end a string that it leaves open.
CREATE VIEW {in_round} AS SELECT FROM {copy} WHERE ({condition})
