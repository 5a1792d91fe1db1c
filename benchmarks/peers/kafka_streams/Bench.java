import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** Candidate kafka-streams: every program of the benchmarks. Names come from the environment, as for the others. */
public class Bench {
    /** How long windows are kept. By default it is their size: a backlog of years then makes a RocksDB segment for each
        day, and sessions whose pause is the gap to the minute are not found. */
    static final Duration KEPT = Duration.ofDays(30);

    record Flight(long id, String carrier, String origin, String dest, @JsonProperty("dep_delay") Integer delay, int distance) {
        String route() { return origin + "-" + dest; }
        boolean departed() { return delay != null; }
    }
    record Delay(long id, String carrier, String route, int minutes, boolean late) {
        static Delay of(Flight flight) {
            return new Delay(flight.id, flight.carrier, flight.route(), flight.delay, flight.delay > 15);
        }
    }
    record Result(long n, long total) { }
    record Aircraft(String manufacturer, int seats) { }
    record Seats(long id, String manufacturer, int seats) { }
    record Pair(long even, long odd) { }

    public static void main(String[] args) {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, env("RUN"));
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, env("BROKER"));
        config.put(StreamsConfig.STATE_DIR_CONFIG, env("DATA"));
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, or("CACHE", "0"));
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, or("DELIVERY", StreamsConfig.AT_LEAST_ONCE));
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        config.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        if (System.getenv("BENCH_LINGER") != null) {
            config.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), env("LINGER"));
            config.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 10);
        }
        StreamsBuilder builder = new StreamsBuilder();
        build(env("PROGRAM"), builder);
        KafkaStreams streams = new KafkaStreams(builder.build(config), config);
        streams.setUncaughtExceptionHandler(failure -> {
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    static void build(String program, StreamsBuilder builder) {
        Serde<String> text = Serdes.String();
        Serde<Flight> flight = json(Flight.class);
        KStream<String, Flight> flights = builder.stream(env("SOURCE"), Consumed.with(text, flight));
        String out = env("OUT");
        switch (program) {
            case "stateless" -> flights
                .filter((key, value) -> value.departed())
                .mapValues(Delay::of)
                .to(out, Produced.with(text, json(Delay.class)));
            case "keyed" -> flights
                .groupByKey(Grouped.with(text, flight))
                .aggregate(
                    () -> new Result(0, 0),
                    (key, value, so) -> new Result(so.n + 1, so.total + value.distance),
                    Materialized.<String, Result, KeyValueStore<Bytes, byte[]>>as("per-key")
                        .withKeySerde(text).withValueSerde(json(Result.class)))
                .toStream()
                .to(out, Produced.with(text, json(Result.class)));
            case "tumbling" -> flights
                .groupByKey(Grouped.with(text, flight))
                .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofDays(1)))
                .aggregate(
                    () -> new Result(0, 0),
                    (key, value, so) -> new Result(so.n + 1, so.total + value.distance),
                    Materialized.<String, Result, WindowStore<Bytes, byte[]>>as("per-window")
                        .withRetention(KEPT).withKeySerde(text).withValueSerde(json(Result.class)))
                .toStream()
                .to(out, Produced.with(windowed(), json(Result.class)));
            case "session" -> flights
                .groupByKey(Grouped.with(text, flight))
                .windowedBy(SessionWindows.ofInactivityGapWithNoGrace(Duration.ofHours(8)))
                .aggregate(
                    () -> new Result(0, 0),
                    (key, value, so) -> new Result(so.n + 1, so.total + value.distance),
                    (key, one, other) -> new Result(one.n + other.n, one.total + other.total),
                    Materialized.<String, Result, SessionStore<Bytes, byte[]>>as("per-window")
                        .withRetention(KEPT).withKeySerde(text).withValueSerde(json(Result.class)))
                .toStream()
                .filter((key, value) -> value != null)
                .to(out, Produced.with(windowed(), json(Result.class)));
            case "rekey" -> flights
                .filter((key, value) -> value.departed())
                .selectKey((key, value) -> value.route())
                .repartition(Repartitioned.with(text, flight).withName("by-route").withNumberOfPartitions(4))
                .mapValues(Delay::of)
                .to(out, Produced.with(text, json(Delay.class)));
            case "join" -> flights
                .join(
                    builder.table(env("TABLE"), Consumed.with(text, json(Aircraft.class))),
                    (value, aircraft) -> new Seats(value.id, aircraft.manufacturer, aircraft.seats),
                    Joined.with(text, flight, json(Aircraft.class)))
                .to(out, Produced.with(text, json(Seats.class)));
            case "stream-join" -> flights
                .filter((key, value) -> value.id % 2 == 0)
                .join(
                    flights.filter((key, value) -> value.id % 2 == 1),
                    (even, odd) -> new Pair(even.id, odd.id),
                    JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofHours(4)),
                    StreamJoined.with(text, flight, flight).withName("pairs").withStoreName("pairs"))
                .to(out, Produced.with(text, json(Pair.class)));
            default -> throw new IllegalArgumentException(program);
        }
    }

    /** Windows' keys as Penstock writes them: end, start, key; so that one check reads both. */
    static Serde<Windowed<String>> windowed() {
        return Serdes.serdeFrom(
            (topic, window) -> {
                byte[] key = window.key().getBytes(StandardCharsets.UTF_8);
                return ByteBuffer.allocate(16 + key.length)
                    .putLong(window.window().end() ^ Long.MIN_VALUE)
                    .putLong(window.window().start() ^ Long.MIN_VALUE)
                    .put(key).array();
            },
            (topic, bytes) -> { throw new UnsupportedOperationException(); });
    }

    static <T> Serde<T> json(Class<T> type) {
        ObjectMapper mapper = new ObjectMapper().configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
        ObjectReader reader = mapper.readerFor(type);
        ObjectWriter writer = mapper.writerFor(type);
        return Serdes.serdeFrom(
            (topic, value) -> {
                try {
                    return value == null ? null : writer.writeValueAsBytes(value);
                } catch (IOException failure) {
                    throw new UncheckedIOException(failure);
                }
            },
            (topic, bytes) -> {
                try {
                    return bytes == null ? null : reader.readValue(bytes);
                } catch (IOException failure) {
                    throw new UncheckedIOException(failure);
                }
            });
    }

    static String env(String name) {
        return System.getenv("BENCH_" + name);
    }

    static String or(String name, String otherwise) {
        String value = env(name);
        return value == null ? otherwise : value;
    }
}
