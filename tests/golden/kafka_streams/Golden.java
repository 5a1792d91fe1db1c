import com.fasterxml.jackson.core.type.TypeReference;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.IntStream;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;

/**
 * Reads cases from standard input and writes what Kafka Streams makes of them to standard output, both as JSON: for each
 * case, for each of its inputs, the results that came out on it. The arguments are a folder for stores and their kind:
 * rocksdb or memory.
 */
public final class Golden {
    record Case(String operator, String mode, Map<String, Object> params, List<List<Object>> inputs) { }

    public static void main(String[] args) throws IOException {
        List<Case> cases = Values.JSON.readValue(System.in, new TypeReference<>() { });
        Object[] results = new Object[cases.size()];
        IntStream.range(0, cases.size()).parallel().forEach(
            i -> results[i] = run(cases.get(i), config(Path.of(args[0], "case-" + i), args[1])));
        Values.JSON.writeValue(System.out, results);
    }

    private static List<List<Object>> run(Case given, Properties config) {
        StreamsBuilder builder = new StreamsBuilder();
        List<Object> seen = new ArrayList<>();
        capture(new Operators(builder, given.mode, given.params).build(given.operator), seen);
        Topology topology = builder.build();
        List<List<Object>> results = new ArrayList<>();
        try (TopologyTestDriver driver = new TopologyTestDriver(topology, config, Instant.EPOCH)) {
            Map<String, TestInputTopic<String, Object>> topics = new HashMap<>();
            for (List<Object> input : given.inputs) {
                TestInputTopic<String, Object> topic = topics.computeIfAbsent((String) input.get(0), name ->
                    driver.createInputTopic(name, Values.KEYS.serializer(), Values.VALUES.serializer()));
                topic.pipeInput((String) input.get(1), input.get(2), ((Number) input.get(3)).longValue());
                results.add(new ArrayList<>(seen));
                seen.clear();
            }
        } catch (RuntimeException failure) {
            throw new IllegalStateException(given.toString(), failure);
        }
        return results;
    }

    private static <K> void capture(KStream<K, Object> results, List<Object> seen) {
        results.process(() -> new ContextualProcessor<K, Object, Void, Void>() {
            @Override
            public void process(Record<K, Object> record) {
                if (record.key() instanceof Windowed<?> windowed) {
                    seen.add(Values.list(windowed.key(), record.value(), record.timestamp(),
                        windowed.window().start(), windowed.window().end()));
                } else {
                    seen.add(Values.list(record.key(), record.value(), record.timestamp()));
                }
            }
        });
    }

    /** No cache, and no wall-clock pause between two looks for what is due: every result shows, on the input it is due on. */
    private static Properties config(Path folder, String stores) {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, "golden");
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "none:0");
        config.put(StreamsConfig.STATE_DIR_CONFIG, folder.toString());
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX, 0L);
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        config.put(StreamsConfig.DSL_STORE_SUPPLIERS_CLASS_CONFIG, switch (stores) {
            case "rocksdb" -> BuiltInDslStoreSuppliers.RocksDBDslStoreSuppliers.class;
            case "memory" -> BuiltInDslStoreSuppliers.InMemoryDslStoreSuppliers.class;
            default -> throw new IllegalArgumentException(stores);
        });
        return config;
    }

    private Golden() { }
}
