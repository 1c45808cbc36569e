import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Sum and count per asset and quarter hour of event time with Flink: heap state, a checkpoint every second, final rows only. */
public class FlinkPeer {
    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0], in = arguments[1], out = arguments[2], directory = arguments[3];
        boolean batches = arguments[4].equals("batches");
        Configuration configuration = new Configuration();
        configuration.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        configuration.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, "file://" + directory);
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(2, configuration);
        environment.enableCheckpointing(1000);
        environment.getConfig().enableObjectReuse();

        KafkaSource<Reading> source = KafkaSource.<Reading>builder()
            .setBootstrapServers(bootstrap)
            .setTopics(in)
            .setGroupId(in + "-flink")
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setValueOnlyDeserializer(new Payloads(batches))
            .setProperty("max.poll.records", "10000")
            .build();
        KafkaSink<Row> sink = KafkaSink.<Row>builder()
            .setBootstrapServers(bootstrap)
            .setRecordSerializer((KafkaRecordSerializationSchema<Row>) (row, context, time) ->
                new ProducerRecord<>(out, row.asset.getBytes(StandardCharsets.ISO_8859_1), row.bytes()))
            .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
            .setProperty("compression.type", "lz4")
            .setProperty("linger.ms", "5")
            .build();
        WatermarkStrategy<Reading> watermarks = WatermarkStrategy.<Reading>forBoundedOutOfOrderness(Duration.ofSeconds(60))
            .withTimestampAssigner((reading, before) -> reading.at);
        environment.fromSource(source, watermarks, "readings")
            .keyBy(reading -> reading.asset)
            .window(TumblingEventTimeWindows.of(Duration.ofMinutes(15)))
            .aggregate(new Sum(), new Named())
            .sinkTo(sink);
        Reading.tellProgress();
        environment.execute("quarter hours");
    }

    private static final class Payloads implements DeserializationSchema<Reading> {
        private final boolean batches;

        Payloads(boolean batches) {
            this.batches = batches;
        }

        @Override
        public Reading deserialize(byte[] bytes) throws IOException {
            return Reading.single(bytes);
        }

        @Override
        public void deserialize(byte[] bytes, Collector<Reading> out) throws IOException {
            if (batches) {
                Reading.batch(bytes, out::collect);
            } else {
                out.collect(Reading.single(bytes));
            }
        }

        @Override
        public boolean isEndOfStream(Reading reading) {
            return false;
        }

        @Override
        public TypeInformation<Reading> getProducedType() {
            return TypeInformation.of(Reading.class);
        }
    }

    private static final class Sum implements AggregateFunction<Reading, Row, Row> {
        @Override
        public Row createAccumulator() {
            return new Row();
        }

        @Override
        public Row add(Reading reading, Row row) {
            return row.plus(reading.power);
        }

        @Override
        public Row getResult(Row row) {
            return row;
        }

        @Override
        public Row merge(Row one, Row other) {
            one.count += other.count;
            one.sum += other.sum;
            return one;
        }
    }

    private static final class Named extends ProcessWindowFunction<Row, Row, String, TimeWindow> {
        @Override
        public void process(String asset, Context context, Iterable<Row> rows, Collector<Row> out) {
            Row row = rows.iterator().next();
            row.asset = asset;
            row.start = context.window().getStart();
            out.collect(row);
        }
    }
}
