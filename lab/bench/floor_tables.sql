-- As many rows of the same size as the placement of an order with two lines leaves in its database.
CREATE TABLE IF NOT EXISTS floor_event (
    stream_id bigint, category text, version int, type text, schema_version int, data text, metadata text,
    recorded_at timestamptz, PRIMARY KEY (stream_id, category, version));
CREATE TABLE IF NOT EXISTS floor_order (
    id bigint PRIMARY KEY, customer_id bigint, status text, total bigint, currency text, placed_at timestamptz);
CREATE TABLE IF NOT EXISTS floor_line (
    order_id bigint, position int, sku text, name text, quantity int, unit_price bigint,
    PRIMARY KEY (order_id, position));
