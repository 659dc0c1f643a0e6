-- Of the first scan: every further one rejects them again.
SELECT count(DISTINCT (file_id, line)) AS lines FROM reject_errors WHERE scan_id = (SELECT min(scan_id) FROM reject_errors)
