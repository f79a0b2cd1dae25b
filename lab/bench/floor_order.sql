\set id random(1, 9000000000000000000)
BEGIN;
INSERT INTO floor_event VALUES (:id, 'order', 1, 'order.placed', 1, repeat('x', 600), repeat('x', 150), now());
INSERT INTO floor_order VALUES (:id, 4711, 'placed', 2100, 'EUR', now());
INSERT INTO floor_line VALUES (:id, 1, 'TEA', 'Green tea', 2, 450), (:id, 2, 'CUP', 'Cup', 1, 1200);
COMMIT;
