-- How PostgreSQL writes a word as the text of a type; an error where it is none.
SELECT %(word)s::text::{type}::text
