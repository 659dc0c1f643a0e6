-- The number itself where it is one to count with; null for nan, for infinities and for what overflows in sums. What
-- is too small is 0, as its products underflow. The same rule as that of `servicekit.inputs.numbers`.
CREATE MACRO finite_number(value) AS
    CASE WHEN abs(value) < 1e-30 THEN 0.0 WHEN value BETWEEN -1e30 AND 1e30 THEN value END;
-- The nearest integer, null where there is none that BIGINT holds.
CREATE MACRO whole(value) AS try_cast(finite_number(value::DOUBLE) AS BIGINT)
