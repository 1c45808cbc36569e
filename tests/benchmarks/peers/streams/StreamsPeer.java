import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;

/** Sum and count per asset and quarter hour of event time with Kafka Streams: RocksDB behind a cache, changelogs, final rows only. */
public class StreamsPeer {
    public static void main(String[] arguments) {
        String bootstrap = arguments[0], in = arguments[1], out = arguments[2], directory = arguments[3];
        Serde<Reading> readings = Serdes.serdeFrom((topic, reading) -> null, (topic, bytes) -> Reading.single(bytes));
        Serde<Row> rows = Serdes.serdeFrom((topic, row) -> row == null ? null : row.bytes(), (topic, bytes) -> bytes == null ? null : Row.of(bytes));

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(in, Consumed.with(Serdes.String(), readings).withTimestampExtractor((record, before) -> ((Reading) record.value()).at))
            .groupByKey(Grouped.with(Serdes.String(), readings))
            .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(15), Duration.ofSeconds(60)))
            .aggregate(Row::new, (asset, reading, row) -> row.plus(reading.power), Materialized.with(Serdes.String(), rows))
            .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
            .toStream()
            .map((window, row) -> {
                row.start = window.window().start();
                return KeyValue.pair(window.key(), row);
            })
            .to(out, Produced.with(Serdes.String(), rows));

        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, in + "-streams");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 * 1024 * 1024);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        Reading.tellProgress();
        streams.start();
    }
}
