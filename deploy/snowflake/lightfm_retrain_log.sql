-- The table that every training run leaves a row in: times are UTC, one row a run by job_name and timestamp.
CREATE SCHEMA IF NOT EXISTS feed;
CREATE TABLE IF NOT EXISTS feed.lightfm_retrain_log (
    job_name VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    timestamp TIMESTAMP_NTZ NOT NULL,
    interactions_processed INTEGER,
    error_message VARCHAR
);
