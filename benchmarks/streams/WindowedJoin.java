import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.state.Stores;

/**
 * Joins two topics by key within an hour and writes the pairs to a third: arguments are brokers, application id, left,
 * right and output topic, and the number of pairs. Prints the events a second between the first event and the last
 * pair. Stores are in memory with changelogs, commits come each second, and the producer is idempotent with acks=all.
 */
public class WindowedJoin {
    public static void main(String[] arguments) throws Exception {
        long pairs = Long.parseLong(arguments[5]);
        AtomicLong began = new AtomicLong();
        AtomicLong joined = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        Duration window = Duration.ofHours(1);
        Duration grace = Duration.ofMinutes(1);
        Duration retention = window.multipliedBy(2).plus(grace);

        StreamsBuilder builder = new StreamsBuilder();
        var consumed = Consumed.with(Serdes.String(), Serdes.String());
        var left = builder.stream(arguments[2], consumed).peek((key, value) -> began.compareAndSet(0, System.nanoTime()));
        var right = builder.stream(arguments[3], consumed);
        left.join(
                right,
                (one, other) -> one + other,
                JoinWindows.ofTimeDifferenceAndGrace(window, grace),
                StreamJoined.with(Serdes.String(), Serdes.String(), Serdes.String())
                    .withThisStoreSupplier(Stores.inMemoryWindowStore("this", retention, window.multipliedBy(2), true))
                    .withOtherStoreSupplier(
                        Stores.inMemoryWindowStore("other", retention, window.multipliedBy(2), true)))
            .peek((key, value) -> {
                if (joined.incrementAndGet() == pairs) {
                    long nanoseconds = System.nanoTime() - began.get();
                    System.out.println(2.0 * pairs / (nanoseconds / 1e9));
                    done.countDown();
                }
            })
            .to(arguments[4], Produced.with(Serdes.String(), Serdes.String()));

        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        settings.put(StreamsConfig.producerPrefix("acks"), "all");
        settings.put(StreamsConfig.producerPrefix("enable.idempotence"), "true");
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.start();
        done.await();
        streams.close(Duration.ofSeconds(20));
    }
}
