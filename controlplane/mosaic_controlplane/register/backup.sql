-- name: facts
select c.trust_domain, c.alias, c.register_epoch, now() as at,
  (select max(m.version) from fleet.migration m) as version
from fleet.cluster c
