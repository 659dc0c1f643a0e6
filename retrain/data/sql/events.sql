-- Each interaction once. A delivery that came twice differs from the first in its watch time at most.
-- Completion is the watched share of the video, or of its first $long_watch_ms where it is longer or unknown.
CREATE TABLE events AS
SELECT
    once.user, once.video, once.at_ms,
    (kinds.value + kinds.watched * completion)::FLOAT AS value,
    kinds.explicit OR (kinds.watched > 0 AND completion >= 1) AS liked,
    kinds.takes_back
FROM (
    SELECT user, video, kind, at_ms, max(watch_ms) AS watch_ms FROM coded WHERE fault IS NULL GROUP BY ALL
) AS once
JOIN kinds USING (kind)
JOIN (
    SELECT video, CASE WHEN duration_ms > 0 THEN least(duration_ms, $long_watch_ms) ELSE $long_watch_ms END AS full_ms
    FROM videos
) AS length USING (video),
LATERAL (SELECT least(1.0, once.watch_ms / length.full_ms) AS completion) AS watched
