SELECT median(try_cast(value AS DOUBLE)) AS median FROM raw
