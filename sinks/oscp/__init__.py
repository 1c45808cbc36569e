"""What we owe partners, sent to their OSCP APIs.

- `client`: one attempt of one message, and what its answer means. `oauth`: tokens for partners that ask for them.
- `queues`, `breaker`: pure: which message of a partner goes next, and when.
- `progress`: pure: which positions are safe to commit. `history`: the same from and to Kafka.
- `bodies`: message bodies in bounded memory. `dispatcher`: the thread that runs all of it.
"""
