from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.topics import CONFIG
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import LOGGER, Producer, client_config, consumer_config, create_topics, plain_name, topic_name
from sinks.kafka_clients import producer_config
from sinks.settings import KafkaSettings

REAL = KafkaSettings(bootstrap="kafka.example:9092")
EMBEDDED = KafkaSettings(bootstrap="127.0.0.1:1", embedded=True)
NOBODY = KafkaSettings(bootstrap="127.0.0.1:1", replication=1, min_insync=1)


def test_a_real_brokers_long_poll_is_left_alone_and_the_embedded_one_is_asked_rarely():
    assert "fetch.wait.max.ms" not in consumer_config(REAL, "a", "g")
    assert consumer_config(EMBEDDED, "a", "g")["fetch.wait.max.ms"] == 100
    assert consumer_config(EMBEDDED, "a", "g", fetch_wait_ms=250)["fetch.wait.max.ms"] == 250


def test_a_consumer_never_jumps_and_never_stalls_on_a_full_queue():
    config = consumer_config(REAL, "a", "g")
    assert config["auto.offset.reset"] == "error"
    assert config["fetch.queue.backoff.ms"] == 5
    assert config["enable.auto.commit"] is False


def test_a_producer_loses_and_doubles_nothing_and_partitions_like_java():
    config = producer_config(REAL, "a", 30)
    assert (config["acks"], config["enable.idempotence"], config["partitioner"]) == ("all", True, "murmur2_random")


def test_installations_on_one_cluster_have_topics_and_groups_of_their_own():
    settings = REAL.model_copy(update={"topic_prefix": "north."})
    assert topic_name(settings, CONFIG) == "north.derms.config"
    assert plain_name(settings, "north.derms.config") == "derms.config"
    assert consumer_config(settings, "a", "derms-reporting")["group.id"] == "north.derms-reporting"


def test_sasl_and_tls_reach_the_client(tmp_path: Path):
    ca = tmp_path / "ca.pem"
    ca.write_text("pem")
    settings = REAL.model_copy(
        update={
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "derms",
            "sasl_password": SecretStr("hush"),
            "ca_file": ca,
        }
    )
    config = client_config(settings, "a")
    assert config["security.protocol"] == "SASL_SSL"
    assert (config["sasl.mechanism"], config["sasl.username"], config["sasl.password"]) == ("SCRAM-SHA-512", "derms", "hush")
    assert config["ssl.ca.location"] == str(ca)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": SecretStr("p")}, "DERMS_KAFKA__SASL_MECHANISM"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}, "DERMS_KAFKA__SASL_PASSWORD"),
        ({"ca_file": Path("/nowhere/ca.pem")}, "DERMS_KAFKA__CA_FILE"),
    ],
)
def test_a_missing_part_of_the_security_settings_is_named(changes: dict[str, object], name: str):
    with pytest.raises(Misconfigured) as raised:
        client_config(REAL.model_copy(update=changes), "a")
    assert raised.value.setting == name


def test_nobody_there_is_said_in_one_sentence_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(Unavailable, match=r"the broker at 127\.0\.0\.1:1 did not list its topics"):
        create_topics(NOBODY, [CONFIG], timeout_s=0.3)
    producer = Producer(NOBODY, "test", timeout_s=0.3)
    producer.send(CONFIG, "k", b"v")
    with pytest.raises(Unavailable):
        producer.flush()
    assert capfd.readouterr() == ("", "")


def test_a_wrong_password_is_thought_of():
    settings = NOBODY.model_copy(
        update={"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": SecretStr("hush")}
    )
    with pytest.raises(Unavailable, match="a wrong DERMS_KAFKA__SASL_PASSWORD looks like this") as raised:
        create_topics(settings, [CONFIG], timeout_s=0.3)
    assert "hush" not in str(raised.value)


def test_a_lost_broker_is_said_now_and_then_and_not_several_times_a_second(caplog: pytest.LogCaptureFixture):
    for _ in range(50):
        LOGGER.error("%s [%s] %s", "FAIL", "some-client", "connection refused")
        LOGGER.error("%s [%s] %s", "FAIL", {"another": "client"}, "connection refused")
    assert len(caplog.records) == 2
