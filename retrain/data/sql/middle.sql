-- The instant by which half of the interactions of a time had happened.
SELECT quantile_disc(at_ms, 0.5) AS at_ms FROM events WHERE at_ms >= $since_ms AND at_ms < $until_ms
