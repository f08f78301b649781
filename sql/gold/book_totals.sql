-- The classic MapReduce example: copies sold by book, over three input splits. `watershed run book_totals --explain` names its stages.
-- Answers: how many copies of each book were sold? (A 8, B 38, C 23)
CREATE MATERIALIZED VIEW gold.book_totals
SCHEDULE EVERY 1 DAY
AS SELECT book, sum(copies) AS copies
FROM (
    SELECT * FROM (VALUES ('Book A', 2), ('Book B', 8), ('Book C', 1), ('Book B', 6)) AS split_1 (book, copies)
    UNION ALL
    SELECT * FROM (VALUES ('Book B', 15), ('Book A', 2), ('Book C', 7), ('Book A', 1)) AS split_2 (book, copies)
    UNION ALL
    SELECT * FROM (VALUES ('Book C', 4), ('Book A', 3), ('Book B', 9), ('Book C', 11)) AS split_3 (book, copies)
) AS sales
GROUP BY book;
