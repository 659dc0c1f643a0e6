-- What an interaction says of a user's liking, from the table in modelstore/interaction_weights.py.
--   value      weight of the interaction as a positive
--   watched    further weight, in proportion to how much of the video was watched
--   explicit   always counts as liked when quality is measured
--   takes_back cancels what the user said of the video before
-- Ratings count as exposures only, as exports do not hold their value.
CREATE TABLE kinds AS
SELECT
    k.kind::INTEGER AS kind, k.name::VARCHAR AS name, k.value::DOUBLE AS value, k.watched::DOUBLE AS watched,
    k.explicit::BOOLEAN AS explicit, k.takes_back::BOOLEAN AS takes_back
FROM (SELECT unnest($kinds) AS k)
