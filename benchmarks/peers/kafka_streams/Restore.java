import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Restores a key-value store from its changelog. Arguments: broker, application id, source topic, folder, records. */
public class Restore {
    public static void main(String[] args) throws Exception {
        long wanted = Long.parseLong(args[4]);
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        StreamsBuilder builder = new StreamsBuilder();
        builder.table(
            args[2],
            Consumed.with(Serdes.Bytes(), Serdes.ByteArray()),
            Materialized.<org.apache.kafka.common.utils.Bytes, byte[]>as(Stores.persistentKeyValueStore("rows"))
                .withKeySerde(Serdes.Bytes()).withValueSerde(Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        AtomicLong first = new AtomicLong(), last = new AtomicLong(), firstCpu = new AtomicLong(), lastCpu = new AtomicLong(), restored = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            public void onRestoreStart(TopicPartition tp, String store, long from, long to) {
                if (first.compareAndSet(0, System.nanoTime())) firstCpu.set(cpu());
            }
            public void onBatchRestored(TopicPartition tp, String store, long end, long count) { }
            public void onRestoreEnd(TopicPartition tp, String store, long total) {
                last.set(System.nanoTime());
                lastCpu.set(cpu());
                if (restored.addAndGet(total) >= wanted) done.countDown();
            }
        });
        streams.start();
        done.await();
        while (streams.state() != KafkaStreams.State.RUNNING) Thread.sleep(10);
        ReadOnlyKeyValueStore<Object, Object> rows = streams.store(
            StoreQueryParameters.fromNameAndType("rows", QueryableStoreTypes.keyValueStore()));
        long count = 0;
        try (var all = rows.all()) { while (all.hasNext()) { all.next(); count++; } }
        String peak = Files.readAllLines(Path.of("/proc/self/status")).stream()
            .filter(line -> line.startsWith("VmHWM:")).findFirst().orElseThrow().replaceAll("\\D", "");
        System.out.println("{\"peak_mb\": " + Long.parseLong(peak) / 1024.0 + ", \"seconds\": " + (last.get() - first.get()) / 1e9 + ", \"cpu_seconds\": "
            + (lastCpu.get() - firstCpu.get()) / 1e9 + ", \"rows\": " + count + "}");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }
}
