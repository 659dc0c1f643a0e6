COPY (SELECT * FROM films WHERE is_identifier("videoId") ORDER BY "videoId") TO $file (FORMAT parquet, COMPRESSION zstd)
