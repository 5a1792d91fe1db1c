import java.time.Duration;
import java.util.Map;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** One operator of Kafka Streams between its input topics and the stream of its results. */
final class Operators {
    private final StreamsBuilder builder;
    private final String mode;
    private final Map<String, Object> params;

    Operators(StreamsBuilder builder, String mode, Map<String, Object> params) {
        this.builder = builder;
        this.mode = mode;
        this.params = params;
    }

    KStream<?, Object> build(String operator) {
        return switch (operator) {
            case "keyed" -> keyed(stream("in").groupByKey(grouped()));
            case "rekeyed" -> keyed(stream("in").groupBy((key, value) -> Values.group(value), grouped()));
            case "tumbling", "hopping" -> windowed(stream("in").groupByKey(grouped()).windowedBy(timeWindows()));
            case "sliding" -> windowed(stream("in").groupByKey(grouped())
                .windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(ms("difference"), ms("grace"))));
            case "session" -> session(stream("in").groupByKey(grouped())
                .windowedBy(SessionWindows.ofInactivityGapAndGrace(ms("gap"), ms("grace"))));
            case "stream_stream" -> streamStream(stream("left"), stream("right"));
            case "stream_table" -> streamTable(stream("stream"), table("table"), Joined.with(
                Values.KEYS, Values.VALUES, Values.VALUES));
            case "as_of" -> asOf();
            case "stream_global" -> streamGlobal(stream("stream"), builder.globalTable("table", consumed()));
            case "table" -> table("in").toStream();
            case "table_table" -> tableTable(table("left"), table("right")).toStream();
            case "foreign_key" -> foreignKey(table("left"), table("right")).toStream();
            case "regrouped" -> regrouped(table("in").groupBy(Values::grouped, grouped()));
            default -> throw new IllegalArgumentException(operator);
        };
    }

    // ---- aggregates

    private KStream<String, Object> keyed(KGroupedStream<String, Object> grouped) {
        return switch (mode) {
            case "count" -> grouped.count(counts("rows")).toStream().mapValues(value -> (Object) value);
            case "reduce" -> grouped.reduce(Values::add, rows("rows")).toStream();
            case "aggregate" -> grouped.aggregate(
                () -> "", (key, value, so) -> Values.append(so, value), rows("rows")).toStream();
            default -> throw new IllegalArgumentException(mode);
        };
    }

    private KStream<?, Object> windowed(TimeWindowedKStream<String, Object> windows) {
        if (mode.equals("final")) {
            windows = windows.emitStrategy(EmitStrategy.onWindowClose());
        }
        if (params.get("aggregate").equals("count")) {
            return windows.count(kept(counts("rows"))).toStream().mapValues(value -> (Object) value);
        }
        return windows.aggregate(() -> "", (key, value, so) -> Values.append(so, value), kept(rows("rows"))).toStream();
    }

    private KStream<?, Object> session(SessionWindowedKStream<String, Object> windows) {
        if (mode.equals("final")) {
            windows = windows.emitStrategy(EmitStrategy.onWindowClose());
        }
        if (params.get("aggregate").equals("count")) {
            return windows.count(kept(counts("rows"))).toStream().mapValues(value -> (Object) value);
        }
        return windows.aggregate(
            () -> "",
            (key, value, so) -> Values.append(so, value),
            (key, one, other) -> Values.merge(one, other),
            kept(rows("rows"))).toStream();
    }

    private KStream<String, Object> regrouped(KGroupedTable<String, Object> grouped) {
        return switch (mode) {
            case "count" -> grouped.count(counts("rows")).toStream().mapValues(value -> (Object) value);
            case "reduce" -> grouped.reduce(
                (so, value) -> Values.add(so, value),
                (so, value) -> Values.add(so, -((Number) value).longValue()),
                rows("rows")).toStream();
            case "aggregate" -> grouped.aggregate(
                () -> "",
                (key, value, so) -> so + "+" + value,
                (key, value, so) -> so + "-" + value,
                rows("rows")).toStream();
            default -> throw new IllegalArgumentException(mode);
        };
    }

    private TimeWindows timeWindows() {
        TimeWindows windows = TimeWindows.ofSizeAndGrace(ms("size"), ms("grace"));
        return params.containsKey("advance") ? windows.advanceBy(ms("advance")) : windows;
    }

    // ---- joins

    private KStream<String, Object> streamStream(KStream<String, Object> left, KStream<String, Object> right) {
        long before = number("before");
        long after = number("after");
        JoinWindows windows = JoinWindows.ofTimeDifferenceAndGrace(Duration.ZERO, ms("grace"));
        windows = before < 0
            ? windows.after(ms("after")).before(ms("before")) // a bound below 0 needs the other one first
            : windows.before(ms("before")).after(ms("after"));
        StreamJoined<String, Object, Object> with = StreamJoined.with(Values.KEYS, Values.VALUES, Values.VALUES);
        return switch (mode) {
            case "inner" -> left.join(right, Values::pair, windows, with);
            case "left" -> left.leftJoin(right, Values::pair, windows, with);
            case "outer" -> left.outerJoin(right, Values::pair, windows, with);
            default -> throw new IllegalArgumentException(mode);
        };
    }

    private KStream<String, Object> streamTable(
        KStream<String, Object> stream, KTable<String, Object> table, Joined<String, Object, Object> with) {
        return switch (mode) {
            case "inner" -> stream.join(table, Values::pair, with);
            case "left" -> stream.leftJoin(table, Values::pair, with);
            default -> throw new IllegalArgumentException(mode);
        };
    }

    private KStream<String, Object> asOf() {
        KTable<String, Object> table = builder.table("table", consumed(), Materialized.<String, Object>as(
            Stores.persistentVersionedKeyValueStore("table", ms("history"))));
        Joined<String, Object, Object> with = Joined.with(Values.KEYS, Values.VALUES, Values.VALUES);
        return streamTable(stream("stream"), table, params.get("grace") == null ? with : with.withGracePeriod(ms("grace")));
    }

    private KStream<String, Object> streamGlobal(KStream<String, Object> stream, GlobalKTable<String, Object> table) {
        return switch (mode) {
            case "inner" -> stream.join(table, (key, value) -> Values.group(value), Values::pair);
            case "left" -> stream.leftJoin(table, (key, value) -> Values.group(value), Values::pair);
            default -> throw new IllegalArgumentException(mode);
        };
    }

    private KTable<String, Object> tableTable(KTable<String, Object> left, KTable<String, Object> right) {
        return switch (mode) {
            case "inner" -> left.join(right, Values::pair);
            case "left" -> left.leftJoin(right, Values::pair);
            case "outer" -> left.outerJoin(right, Values::pair);
            default -> throw new IllegalArgumentException(mode);
        };
    }

    private KTable<String, Object> foreignKey(KTable<String, Object> left, KTable<String, Object> right) {
        return switch (mode) {
            case "inner" -> left.join(right, Values::group, Values::pair, rows("joined"));
            case "left" -> left.leftJoin(right, Values::group, Values::pair, rows("joined"));
            default -> throw new IllegalArgumentException(mode);
        };
    }

    // ---- topics, stores, parameters

    private KStream<String, Object> stream(String topic) {
        return builder.stream(topic, consumed());
    }

    private KTable<String, Object> table(String topic) {
        return builder.table(topic, consumed(), this.<KeyValueStore<Bytes, byte[]>>rows(topic + "-rows"));
    }

    private <S extends StateStore> Materialized<String, Object, S> rows(String name) {
        return Materialized.<String, Object, S>as(name)
            .withKeySerde(Values.KEYS).withValueSerde(Values.VALUES).withCachingDisabled();
    }

    private <S extends StateStore> Materialized<String, Long, S> counts(String name) {
        return Materialized.<String, Long, S>as(name).withKeySerde(Values.KEYS).withCachingDisabled();
    }

    /** Closed windows stay for longer than any case lasts; Kafka Streams' default retention loses some of their results. */
    private static <V, S extends StateStore> Materialized<String, V, S> kept(Materialized<String, V, S> rows) {
        return rows.withRetention(Duration.ofDays(1));
    }

    private static Consumed<String, Object> consumed() {
        return Consumed.with(Values.KEYS, Values.VALUES);
    }

    private static Grouped<String, Object> grouped() {
        return Grouped.with(Values.KEYS, Values.VALUES);
    }

    private long number(String name) {
        return ((Number) params.get(name)).longValue();
    }

    private Duration ms(String name) {
        return Duration.ofMillis(number(name));
    }
}
