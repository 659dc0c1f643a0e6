-- The rule of the API for identifiers: not empty, at most 128 bytes of UTF-8, no control characters.
CREATE MACRO is_identifier(id) AS
    id IS NOT NULL AND octet_length(encode(id)) BETWEEN 1 AND 128 AND NOT regexp_matches(id, '\p{Cc}')
