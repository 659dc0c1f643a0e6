-- What an interaction says of a user's liking.
--   value      weight of the interaction as a positive
--   watched    further weight, in proportion to how much of the video was watched
--   explicit   always counts as liked when quality is measured
--   takes_back cancels what the user said of the video before
-- Ratings count as exposures only, as exports do not hold their value.
CREATE TABLE kinds AS
SELECT * FROM (VALUES
    (0, 'impression', 0.0, 0.0, false, false),
    (1, 'watch',      0.3, 0.7, false, false),
    (2, 'complete',   1.0, 0.0, true,  false),
    (3, 'like',       1.0, 0.0, true,  false),
    (4, 'unlike',     0.0, 0.0, false, true),
    (5, 'follow',     1.0, 0.0, true,  false),
    (6, 'comment',    1.0, 0.0, true,  false),
    (7, 'share',      1.0, 0.0, true,  false),
    (8, 'favorite',   1.0, 0.0, true,  false),
    (9, 'rating',     0.0, 0.0, false, false),
    (10, 'search',    0.5, 0.0, false, false),
    (11, 'skip',      0.0, 0.0, false, false),
    (12, 'hide',      0.0, 0.0, false, true)
) AS k (kind, name, value, watched, explicit, takes_back)
