-- One table that all three offices write; Postgres and MariaDB both take it as it stands.
CREATE TABLE orders (
    id     bigint         NOT NULL PRIMARY KEY,
    office varchar(40)    NOT NULL,
    item   varchar(200)   NOT NULL,
    amount decimal(12, 2) NOT NULL
);
