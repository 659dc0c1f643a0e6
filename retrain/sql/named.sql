-- Every viewer and every video of the good rows, each once, in one look at the files.
CREATE TABLE named AS
SELECT user_id, video_id FROM exported WHERE fault IS NULL GROUP BY GROUPING SETS ((user_id), (video_id))
