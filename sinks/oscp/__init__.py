"""What we owe partners, sent to their OSCP APIs (semantics 8).

- `client`: one attempt of one message. `segments`: pure: what is sent of one that is too large. `answers`: what an answer means.
- `peers`: each partner's connections and files with secrets. `oauth`: tokens for partners that ask for them.
- `queues`, `lanes`, `turns`, `coming`, `waiting`, `pace`, `breaker`: pure: which message of a partner goes next, and when.
- `progress`: pure: which positions are safe to commit. `history`: the same from and to Kafka.
- `bodies`: message bodies in bounded memory.
- `partner_run`: a partner's queue put to work, outcomes recorded (`records`). `orders`: operators' retry and drop.
- `office`: what all partners' sending shares. `fence`: nothing goes but under the lease.
- `dispatcher`: the thread that runs all of it. `standing`: how the queues stand, for pages and metrics.
"""
