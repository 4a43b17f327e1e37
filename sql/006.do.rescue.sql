-- Checkouts that were cancelled by another than the attempt that drove them, which may have died with a call under way: the rescuer
-- writes that call down as a doubt. Few rows at any time.
create index checkouts_abandoned on order_service.checkouts (order_id) where state = 'CANCELLED' and reserve_call = 'unknown';
