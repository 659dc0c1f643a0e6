-- Every user and every video of rows without a fault, each once, in one look at the files. A row names one of the two,
-- and the other is null; identifiers are not checked yet.
CREATE TABLE named AS
SELECT user_id, video_id FROM exported WHERE fault IS NULL GROUP BY GROUPING SETS ((user_id), (video_id))
