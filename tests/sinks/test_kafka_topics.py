import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.topics import CONFIG, DELIVERIES, TELEMETRY, TOPICS
from sinks.errors import Refused
from sinks.kafka import client_config, create_topics, differing_topics, topic_name
from sinks.settings import KafkaSettings


def test_what_is_missing_is_made_and_shown_at_once(kafka_settings: KafkaSettings):
    names = [topic_name(kafka_settings, topic) for topic in TOPICS]
    assert create_topics(kafka_settings, dry_run=True) == names
    assert create_topics(kafka_settings) == names
    assert create_topics(kafka_settings) == []
    assert create_topics(kafka_settings, dry_run=True) == []
    assert differing_topics(kafka_settings) == []


def test_the_embedded_broker_gets_few_partitions_and_a_real_one_all(kafka_settings: KafkaSettings):
    create_topics(kafka_settings, [TELEMETRY])
    found = AdminClient(client_config(kafka_settings, "test")).list_topics(timeout=5).topics[topic_name(kafka_settings, TELEMETRY)]
    assert len(found.partitions) == (2 if kafka_settings.embedded else 16)


def test_what_differs_is_told_and_left_alone(kafka_settings: KafkaSettings):
    admin = AdminClient(client_config(kafka_settings, "test"))
    name = topic_name(kafka_settings, DELIVERIES)
    theirs = NewTopic(name, 3, 1, config={"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"})
    admin.create_topics([theirs])[name].result(10)
    assert create_topics(kafka_settings, [DELIVERIES, CONFIG]) == [topic_name(kafka_settings, CONFIG)]
    told = differing_topics(kafka_settings, [DELIVERIES, CONFIG])
    assert any("3 partitions" in sentence for sentence in told)
    assert any("cleanup.policy=delete" in sentence for sentence in told)
    assert all(name in sentence for sentence in told)


@pytest.mark.kafka
def test_too_many_replicas_for_the_cluster_name_the_setting(real_kafka: KafkaSettings):
    settings = real_kafka.model_copy(update={"topic_prefix": "replicas.", "replication": 3})
    with pytest.raises(Refused, match="DERMS_KAFKA__REPLICATION"):
        create_topics(settings, [CONFIG])
