SELECT median(finite_number(try_cast(value AS DOUBLE))) AS median FROM raw
