-- Holds the place of a migration that is made on another branch; goes when that branch is merged.
SELECT 1;
